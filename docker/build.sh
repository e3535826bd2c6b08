#!/bin/bash
# Builds the images fedminet/coordinator, fedminet/site and fedminet/proxy, without network once the wheels are there.
#
#   docker/build.sh [cpu|cuda]       cuda: the site's image alone, as fedminet/site:VERSION-cuda
#
#   BASE_IMAGE, NGINX_IMAGE   images to build on (docker/base-image.sh makes them where no registry is reached)
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

# 1. The project's wheel, from the files that git knows, and no others.
source=$context/source
rm -rf "$source" && mkdir -p "$source" "$wheels"
git ls-files -z | xargs -0 cp --parents -t "$source"
rm -rf "$context/wheels/fedminet"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
  "$python" -m pip wheel --quiet --no-deps --wheel-dir "$context/wheels/fedminet" "$source"
wheel=$(ls "$context"/wheels/fedminet/fedminet-*.whl)

# 2. Every wheel it needs, at the version that constraints.txt pins; again only where what decides it has changed.
stamp=$wheels/.complete
wanted=$(cat constraints.txt pyproject.toml | sha256sum)
if [[ ! -f $stamp || $(< "$stamp") != "$wanted" ]]; then
  torch=torch
  if [[ $accelerator == cuda ]]; then
    pinned=$(sed -n 's/^torch==//p' constraints.txt)
    torch="torch===$pinned"  # exactly this: no build with a suffix, such as the CPU's
  fi
  rm -rf "${wheels:?}"/*
  "$python" -m pip download --quiet --only-binary :all: --constraint constraints.txt --dest "$wheels" \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$wheel" "$torch"
  rm -f "$wheels"/fedminet-*.whl
  echo "$wanted" > "$stamp"
fi
if [[ $accelerator == cpu ]] && compgen -G "$wheels/nvidia_*" > /dev/null; then
  rm -f "$stamp"
  echo "build.sh: pip found PyTorch's build with CUDA; name the index of its CPU builds with TORCH_INDEX" >&2
  exit 1
fi

# Each of them the very file that the list beside the source names: a version alone can be given again to another file.
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

base=${BASE_IMAGE:+--build-arg BASE_IMAGE=$BASE_IMAGE}
nginx=${NGINX_IMAGE:+--build-arg NGINX_IMAGE=$NGINX_IMAGE}
# shellcheck disable=SC2086  # each is one option with its value, or nothing
if [[ $accelerator == cuda ]]; then
  image site "$version-cuda" --build-arg ACCELERATOR=cuda $base
else
  image site "$version" $base
  image coordinator "$version" $base
  image proxy "$version" $nginx
fi
