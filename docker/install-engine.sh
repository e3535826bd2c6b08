#!/bin/bash
# Installs what `make containers` needs on Debian 12: the engine, Compose 2.24 or later, mmdebstrap for base images, nftables.
# Also the PACS and the DICOM tools that tests of `make test` speak with: Orthanc and dcmtk; without them they are skipped.
# Run as root. The engine is not started: the tests start one of their own where none answers.
set -euo pipefail

apt-get update -qq
apt-get install -qq --yes --no-install-recommends docker.io tini runc nftables iptables mmdebstrap nginx-light libnginx-mod-stream util-linux
# A mirror without the two costs their tests alone. RUNLEVEL=1: init scripts start no service of theirs.
RUNLEVEL=1 apt-get install -qq --yes --no-install-recommends orthanc dcmtk || echo "no Orthanc or dcmtk: their tests are skipped" >&2

# Compose of Debian 12 is too old: the package of Debian 13 is one program, which is put beside the engine as a plug-in.
plugins=/usr/local/lib/docker/cli-plugins
if ! docker compose version > /dev/null 2>&1; then
  work=$(mktemp --directory)
  trap 'rm -rf "$work"' EXIT
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2> /dev/null | head -n 1)
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?no mirror is named in debian.sources} trixie main" \
    > "$work/trixie.list"
  options=(
    -o "Dir::Etc::SourceList=$work/trixie.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root
  )
  apt-get "${options[@]}" update -qq
  (cd "$work" && apt-get "${options[@]}" download -qq docker-compose)
  dpkg-deb --extract "$work"/docker-compose_*.deb "$work/package"
  install -D -m 0755 "$(find "$work/package" -type f -path "*/cli-plugins/docker-compose" | head -n 1)" "$plugins/docker-compose"
fi
docker compose version
