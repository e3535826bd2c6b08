#!/bin/bash
# Makes the two images that the others are built on from Debian's packages, where no container registry is reached.
# Needs root, mmdebstrap and a container engine. Prints BASE_IMAGE=... and NGINX_IMAGE=... for docker/build.sh.
set -euo pipefail

suite=bookworm

image() {  # image TAG PACKAGES
  local tag=$1 packages=$2
  if ! docker image inspect "$tag" > /dev/null 2>&1; then
    local tar
    tar=$(mktemp --suffix=.tar)
    mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$tar"
    docker import "$tar" "$tag" > /dev/null
    rm -f "$tar"
  fi
}

image "fedminet-base/python:$suite" python3,python3-venv,python3-pip,ca-certificates
image "fedminet-base/nginx:$suite" nginx-light,libnginx-mod-stream,ca-certificates
echo "BASE_IMAGE=fedminet-base/python:$suite"
echo "NGINX_IMAGE=fedminet-base/nginx:$suite"
