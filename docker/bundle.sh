#!/bin/bash
# Makes the offline bundle for a hospital without a registry: images, bills of materials, compose files, checksums, signature.
#
#   docker/bundle.sh FOLDER KEY [KIT]     FOLDER: new. KEY: a private SSH key to sign with. KIT: the site's kit, if it has one
#
#   TAG   the images' tag; the version in pyproject.toml. With -cuda at its end the site's image is the one with CUDA.
#
# How a hospital verifies it stands in docs/containers.md: three commands, with programs that every Linux machine has.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
folder=${1:?FOLDER} key=${2:?KEY} kit=${3:-}
python=${PYTHON:-$here/../.venv/bin/python}
tag=${TAG:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../pyproject.toml")}
site=fedminet/site:$tag
coordinator=fedminet/coordinator:${tag%-cuda}
proxy=fedminet/proxy:${tag%-cuda}

[[ ! -e $folder ]] || { echo "bundle.sh: $folder is there already" >&2; exit 2; }
mkdir -p "$folder/images" "$folder/sbom"

for image in "$site" "$coordinator" "$proxy"; do
  name=$(basename "${image%:*}")
  docker save "$image" | gzip -n -1 > "$folder/images/$name.tar.gz"
  "$python" "$here/sbom.py" "$image" > "$folder/sbom/$name.cdx.json"
  # what `docker image inspect --format {{.Id}}` says once the image is loaded
  echo "$image $(docker image inspect --format '{{.Id}}' "$image")" >> "$folder/images/images.txt"
done
cp "$here"/compose.*.yaml "$folder/"
if [[ -n $kit ]]; then
  cp -RL "$kit" "$folder/kit"
fi

(
  cd "$folder"
  find . -type f ! -name 'SHA256SUMS*' -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum > SHA256SUMS
)
ssh-keygen -q -Y sign -n fedminet-bundle -f "$key" "$folder/SHA256SUMS"
ssh-keygen -y -f "$key" > "$folder/signer.pub"
echo "The bundle is $folder. Read the signer's fingerprint out to the hospital:"
ssh-keygen -l -f "$folder/signer.pub"
