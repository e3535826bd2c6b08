#!/bin/sh
# pynetdicom 3.0.4: installing it puts console scripts into the environment that have the names of dcmtk's programs (echoscu,
# storescu, storescp, findscu, getscu, movescu) and come first in the PATH of an activated one. They are other programs: their
# TLS options have other names, so dcmtk's `+tls KEY CERTIFICATE` is taken for the port, and a command from a PACS's manual
# fails with a usage message. Who calls dcmtk beside pynetdicom names it by its whole path.
#
# Output seen:
#   echoscu findscu getscu movescu storescp storescu
#   status 2: storescp: error: argument port: invalid int value: '+tls'
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pynetdicom==3.0.4 pydicom==3.0.2
names=""
for name in echoscu findscu getscu movescu storescp storescu; do
    if [ -x "$work/env/bin/$name" ]; then names="$names $name"; fi
done
status=0
"$work/env/bin/storescp" +tls key.pem certificate.pem 11112 > "$work/out.txt" 2>&1 || status=$?
{
    echo "${names# }"
    echo "status $status: $(tail -n 1 "$work/out.txt")"
} > "$work/seen.txt"
cat "$work/seen.txt"
cat > "$work/expected.txt" <<'TXT'
echoscu findscu getscu movescu storescp storescu
status 2: storescp: error: argument port: invalid int value: '+tls'
TXT
cmp "$work/seen.txt" "$work/expected.txt"
