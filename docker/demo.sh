#!/bin/bash
# The phantom federation in containers, from nothing to the report: a coordinator behind its proxy, three sites.
#
#   docker/demo.sh [FOLDER [OPTIONS of `fedminet demo`, such as --rounds 4 --patients 4]]
#
# The images are those of docker/build.sh. Everything is left in FOLDER (demo-containers); the containers are removed.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
folder=$(realpath -m "${1:-demo-containers}")
shift || true
export FEDMINET_DEMO=$folder

compose() { docker compose --project-name fedminet-demo --file "$here/compose.demo.yaml" "$@"; }

if [[ ! -e $folder/made/coordinator/server.yaml ]]; then
  mkdir -p "$folder"
  compose run --rm prepare "$@"
fi
trap 'compose down --timeout 10' EXIT
compose up --detach --wait --wait-timeout 900  # until every container is healthy, so that the server answers
resume=()
[[ -e $folder/made/coordinator/runs/demo ]] && resume=(--resume)
compose exec -T coordinator fedminet server run /coordinator --name demo "${resume[@]}"
echo "The report of the coordinator: $folder/made/coordinator/runs/demo/report.html"
