#!/bin/bash
# Writes the digests of the images that ours are built on into docker/base-images.txt, as the registry has them now.
# Needs a container engine and its registry. Where either is not reached, the file stays as it is and the exit status is 1.
set -euo pipefail
cd "$(dirname "$0")"

list=base-images.txt
new=$(mktemp)
trap 'rm -f "$new"' EXIT
while IFS= read -r line; do
  if [[ $line != \#* ]]; then
    image=${line#*=}
    image=${image%@*}
    if ! docker pull --quiet "$image" > /dev/null; then
      echo "base-digests.sh: $image cannot be fetched; $list is as it was" >&2
      exit 1
    fi
    found=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$image" | head -n 1)
    line="${line%%=*}=$image@${found#*@}"
    [[ $line =~ @sha256:[0-9a-f]{64}$ ]] || { echo "base-digests.sh: $image has no digest" >&2; exit 1; }
  fi
  printf '%s\n' "$line" >> "$new"
done < "$list"
cp "$new" "$list"
