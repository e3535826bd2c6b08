#!/bin/sh
# pip 23.2.1 and 26.0: with two digests allowed for one requirement, pip takes the file whose digest the index states
# before a higher version whose digest no link states. PyTorch's build for the CPU in a local folder (2.13.0+cpu, above
# 2.13.0) is taken without --require-hashes; with --require-hashes and both digests listed, the index's build with CUDA
# is, and its gigabytes of packages with it. Nothing is said. A list of its own for each build is the remedy.
#
# Output seen (the same of both versions of pip):
#   without digests: demo-1.0+cpu-py3-none-any.whl
#   both digests allowed: demo-1.0-py3-none-any.whl
#   demo==1.0+cpu and its digest: demo-1.0+cpu-py3-none-any.whl
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
cat > "$work/wheels.py" <<'PY'
import hashlib
import pathlib
import sys
import zipfile

work = pathlib.Path(sys.argv[1])
digests = {}
for version, folder in (("1.0", work / "index" / "demo"), ("1.0+cpu", work / "links")):
    folder.mkdir(parents=True)
    path = folder / f"demo-{version}-py3-none-any.whl"
    info = f"demo-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: demo\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    digests[version] = hashlib.sha256(path.read_bytes()).hexdigest()
(work / "index" / "demo" / "index.html").write_text(
    f'<a href="demo-1.0-py3-none-any.whl#sha256={digests["1.0"]}">demo-1.0-py3-none-any.whl</a>\n'
)
hashes = " ".join(f"--hash=sha256:{digest}" for digest in digests.values())
(work / "plain.txt").write_text("demo==1.0\n")
(work / "both.txt").write_text(f"demo==1.0 {hashes}\n")
(work / "cpu.txt").write_text(f"demo==1.0+cpu --hash=sha256:{digests['1.0+cpu']}\n")
PY
"$work/env/bin/python" "$work/wheels.py" "$work"
taken() {
  rm -rf "$work/got"
  PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' PIP_CONSTRAINT='' PIP_EXTRA_INDEX_URL='' \
    "$work/env/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir \
    --index-url "file://$work/index" --find-links "$work/links" --dest "$work/got" "$@"
  ls "$work/got"
}
cat > "$work/expected.txt" <<'TXT'
without digests: demo-1.0+cpu-py3-none-any.whl
both digests allowed: demo-1.0-py3-none-any.whl
demo==1.0+cpu and its digest: demo-1.0+cpu-py3-none-any.whl
TXT
for version in 23.2.1 26.0; do
  "$work/env/bin/python" -m pip install --quiet --disable-pip-version-check "pip==$version"
  {
    echo "without digests: $(taken --requirement "$work/plain.txt")"
    echo "both digests allowed: $(taken --require-hashes --requirement "$work/both.txt")"
    echo "demo==1.0+cpu and its digest: $(taken --require-hashes --requirement "$work/cpu.txt")"
  } > "$work/seen.txt"
  cat "$work/seen.txt"
  cmp "$work/expected.txt" "$work/seen.txt"
done
