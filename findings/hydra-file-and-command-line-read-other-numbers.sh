#!/bin/sh
# hydra-core 1.3.8 with omegaconf 2.3.1: a value in a configuration file is YAML 1.1's, a value on the command line is of a grammar of
# Hydra's own, and where the key's type is declared (a structured config, which is there to catch such things) both are then converted to it, without a
# word. So the same characters are two values. seed=012 trains with 12 and "seed: 012" with 10 (octal); steps=0100 are 100 and "steps: 0100" are 64; a
# site that is declared as text is "012" by the command line and "10" by its file, which is another hospital, 1:30 is "90" there, and "no" is "False".
# That grammar is in the documentation ("Basic Override syntax"); the conversion to the declared type hides what it does otherwise than the
# files. An override that repeats what the file says is thus another run, and .hydra/config.yaml has the value that was used, where nobody
# sees from which of the two it came. 08 and 09 are text in both, so a numbering goes wrong at 010. Nothing is raised or warned of. Remedy:
# quotes around every name in a file, and numbers without zeros in front.
#
# Output seen (seed and steps are declared as int, site as text):
#   seed 012: by the file 10, by the command line 12
#   steps 0100: by the file 64, by the command line 100
#   site 012: by the file '10', by the command line '012'
#   site 1:30: by the file '90', by the command line '1:30'
#   site no: by the file 'False', by the command line 'no'
#   site 08: by the file '08', by the command line '08'
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check hydra-core==1.3.8 omegaconf==2.3.1 pyyaml==6.0.3
cat > "$work/look.py" <<'PY'
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore


@dataclass
class Run:
    seed: int = 0
    steps: int = 0
    site: str = ""


ConfigStore.instance().store(name="run", node=Run)
with tempfile.TemporaryDirectory() as folder, initialize_config_dir(folder, version_base=None):
    for key, text in (("seed", "012"), ("steps", "0100"), ("site", "012"), ("site", "1:30"), ("site", "no"), ("site", "08")):
        (Path(folder) / "ours.yaml").write_text(f"defaults: [run, _self_]\n{key}: {text}\n")
        by_file = compose("ours")[key]
        by_line = compose("run", [f"{key}={text}"])[key]
        print(f"{key} {text}: by the file {by_file!r}, by the command line {by_line!r}")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
