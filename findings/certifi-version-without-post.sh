#!/bin/sh
# certifi 2026.10.19.post1: the module says 2026.10.19 in __version__, and the package's own version is 2026.10.19.post1. A
# list of versions that is made from __version__ names another release than the one that is installed; flwr 1.42.0 asks for
# certifi>=2026.10.19, which this one meets. importlib.metadata.version is the remedy.
#
# Output seen:
#   package: 2026.10.19.post1
#   module: 2026.10.19
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check certifi==2026.10.19.post1
"$work/env/bin/python" > "$work/seen.txt" <<'PY'
import importlib.metadata

import certifi

print("package:", importlib.metadata.version("certifi"))
print("module:", certifi.__version__)
PY
cat "$work/seen.txt"
cat > "$work/expected.txt" <<'TXT'
package: 2026.10.19.post1
module: 2026.10.19
TXT
cmp "$work/expected.txt" "$work/seen.txt"
