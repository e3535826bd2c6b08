#!/bin/bash
# Makes a release: the wheel, the lists of what it needs with their digests, a bill of materials, checksums, a signature.
#
#   docker/release.sh FOLDER KEY     FOLDER: new. KEY: the private SSH key of the project's owner, which no CI ever has
#
#   PYTHON   a Python with the setuptools of pins/run.txt; .venv/bin/python
#
# It is made of the last commit alone, and twice of the same commit it is the same, byte for byte, but for the signature.
# How a hospital verifies it: docs/operations/verify-a-release.md.
set -euo pipefail
folder=$(realpath -m "${1:?FOLDER}")
key=$(realpath "${2:?KEY: the private key that signs}")
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

[[ ! -e $folder ]] || { echo "release.sh: $folder is there already" >&2; exit 2; }
[[ -z $(git status --porcelain) ]] || { echo "release.sh: there are changes that are not committed" >&2; exit 2; }
"$python" docker/pins.py check

umask 022
export SOURCE_DATE_EPOCH PYTHONHASHSEED=0 TZ=UTC LC_ALL=C
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git archive --prefix=source/ HEAD | tar -x -C "$work" --no-same-permissions
# Held to the setuptools that is named, and to nothing that an index would give.
required=$(sed -n 's/^requires = \["setuptools==\(.*\)"\]/\1/p' pyproject.toml)
"$python" -c 'import importlib.metadata as m, sys; sys.exit(m.version("setuptools") != sys.argv[1])' "$required" || {
  echo "release.sh: the wheel is made by setuptools $required alone: make environment" >&2
  exit 1
}
builder=$(realpath --no-symlinks "$python")
mkdir "$work/release"
(cd "$work/source" && "$builder" -c 'import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])' "$work/release" > /dev/null)
cp pins/run.txt pins/torch.txt pins/torch-cpu.txt pins/cuda.txt SECURITY.md "$work/release/"
"$python" docker/release_sbom.py "$work"/release/fedminet-*.whl > "$work/release/sbom.cdx.json"
(cd "$work/release" && sha256sum -- * > "$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
ssh-keygen -q -Y sign -n fedminet-release -f "$key" "$work/release/SHA256SUMS"
mkdir -p "$(dirname "$folder")"
mv "$work/release" "$folder"
echo "The release is $folder."
