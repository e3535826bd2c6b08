#!/bin/bash
# Builds the images fedminet/coordinator, fedminet/site and fedminet/proxy, without network once the wheels are there.
#
#   docker/build.sh [cpu|cuda]       cuda: the site's image alone, as fedminet/site:VERSION-cuda
#
#   BASE_IMAGE, NGINX_IMAGE   images to build on, with their digests; those of docker/base-images.txt. Where no registry is
#                             reached, docker/base-image.sh makes two, which are taken without: they are this machine's own
#   ALLOW_UNPINNED_BASE=1     build on an image without a digest all the same, for a trial: a name can be given to another
#   PYTHON                    Python of the same minor version as the base image's; .venv/bin/python
#   TORCH_INDEX               index with PyTorch's builds for the CPU, where pip is not set up to find them
#   CONTEXT                   folder for wheels and build context; build/containers
set -euo pipefail
cd "$(dirname "$0")/.."

accelerator=${1:-cpu}
[[ $accelerator == cpu || $accelerator == cuda ]] || { echo "build.sh: cpu or cuda?" >&2; exit 2; }
python=${PYTHON:-.venv/bin/python}
context=$(realpath -m "${CONTEXT:-build/containers}")
version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
wheels=$context/wheels/$accelerator

# 0. The images to build on: a name alone can lead to another image tomorrow.
base_image() {  # base_image VARIABLE
  local image=${!1:-$(sed -n "s/^$1=//p" docker/base-images.txt)}
  if [[ ! $image =~ @sha256:[0-9a-f]{64}$ && ${ALLOW_UNPINNED_BASE:-} != 1 ]]; then
    if [[ $image != fedminet-base/* ]] || ! docker image inspect "$image" > /dev/null 2>&1; then
      echo "build.sh: $1=$image has no digest: make pins, or name one of docker/base-image.sh, or ALLOW_UNPINNED_BASE=1" >&2
      exit 1
    fi
  fi
  echo "$image"
}
base=$(base_image BASE_IMAGE)
[[ $accelerator == cuda ]] || nginx=$(base_image NGINX_IMAGE)

# 1. The project's wheel, from the files that git knows, and no others.
source=$context/source
rm -rf "$source" && mkdir -p "$source" "$wheels"
git ls-files -z | xargs -0 cp --parents -t "$source"
rm -rf "$context/wheels/fedminet"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
  "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$context/wheels/fedminet" "$source"

# 2. Every wheel it needs, held to the digests in pins/; again only where what decides it has changed.
stamp=$wheels/.complete
lists=(pins/run.txt pins/torch-cpu.txt)
[[ $accelerator == cpu ]] || lists=(pins/run.txt pins/torch.txt pins/cuda.txt)
wanted=$(cat "${lists[@]}" pyproject.toml | sha256sum)
if [[ ! -f $stamp || $(< "$stamp") != "$wanted" ]]; then
  rm -rf "${wheels:?}"/*
  for list in "${lists[@]}"; do
    "$python" -m pip download --quiet --only-binary :all: --require-hashes --no-deps --dest "$wheels" \
      ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --requirement "$list" || {
      echo "build.sh: $list cannot be had; PyTorch's index of CPU builds is named with TORCH_INDEX" >&2
      exit 1
    }
  done
  echo "$wanted" > "$stamp"
fi
# Each of them the very file that the list beside the source names, also those that an earlier build left here.
if [[ $accelerator == cpu ]]; then
  "$python" docker/wheel_hashes.py check "$wheels" docker/wheels-cpu.txt || {
    rm -f "$stamp"
    echo "build.sh: a wheel is not the one of docker/wheels-cpu.txt; after a change of constraints.txt, write that list anew" >&2
    exit 1
  }
fi

# 3. The images.
rm -rf "$context/docker" && cp -r docker "$context/docker"
printf '%s\n' source > "$context/.dockerignore"

image() {  # image NAME TAG BUILD-ARGUMENTS...
  local name=$1 tag=$2
  shift 2
  docker build --network none  --quiet --file "$context/docker/$name.Dockerfile" --tag "fedminet/$name:$tag" \
    --build-arg "VERSION=$version" "$@" "$context" > /dev/null
  echo "fedminet/$name:$tag"
}

if [[ $accelerator == cuda ]]; then
  image site "$version-cuda" --build-arg ACCELERATOR=cuda --build-arg "BASE_IMAGE=$base"
else
  image site "$version" --build-arg "BASE_IMAGE=$base"
  image coordinator "$version" --build-arg "BASE_IMAGE=$base"
  image proxy "$version" --build-arg "NGINX_IMAGE=$nginx"
fi
