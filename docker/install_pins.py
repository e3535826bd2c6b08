"""Installs lists of pins into the environment of the Python that runs this, held to their digests.

    python docker/install_pins.py pins/run.txt ...

By uv, which is one of the pins: the pip of Python 3.11 takes most of its time to read the index. uv reads none of pip's
settings, so those that name an index are handed to it. pip fetches uv, and installs everything itself where uv fails,
as with an index that it does not understand. Nothing is installed that is not listed, from a source, or with another
digest; pip is told the same.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
HELD = ("--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:")

OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
"""pip's settings that say where packages come from, each a list, and uv's options of the same meaning."""

VARIABLES = {"cert": "SSL_CERT_FILE", "client-cert": "SSL_CLIENT_CERT", "proxy": "ALL_PROXY"}
"""The same of settings that uv has in its environment."""


def main(lists: Sequence[str]) -> int:
    """Install them; the exit status."""
    if not UV.exists():
        _install_uv()
    if UV.exists() and _with_uv(lists) == 0:
        return 0
    print("install_pins: uv has not managed; pip, which takes a minute more, does it", file=sys.stderr)
    return _with_pip(lists)


def pip_settings(text: str) -> dict[str, str]:
    """By name, the settings in what `pip config list` prints; the environment's before a command's before all's."""
    found: dict[str, tuple[int, str]] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([a-z-]+)=('.*'|\".*\")", line)
        if match:
            rank = ("global", "install", ":env:").index(match[1])
            found[match[2]] = max(found.get(match[2], (-1, "")), (rank, str(ast.literal_eval(match[3]))))
    return {name: value for name, (_, value) in found.items()}


def uv_options(settings: Mapping[str, str]) -> list[str]:
    """uv's options for these settings of pip's."""
    options = ["--no-index"] if settings.get("no-index", "").lower() in ("1", "true", "yes", "on") else []
    for name, option in OPTIONS.items():
        for value in settings.get(name, "").split():
            options += [option, value]
    return options


def _with_uv(lists: Sequence[str]) -> int:
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    settings = pip_settings(asked.stdout)
    variables = {
        variable: settings[name]
        for name, variable in VARIABLES.items()
        if name in settings and variable not in os.environ
    }
    # Every index is looked through for the file with the digest, as by pip; uv stops at the first that has the name.
    command = [str(UV), "pip", "install", "--no-config", "--python", sys.executable, *HELD]
    command += ["--index-strategy", "unsafe-best-match", *uv_options(settings), *_requirements(lists)]
    return subprocess.run(command, env={**os.environ, **variables}).returncode


def _with_pip(lists: Sequence[str]) -> int:
    command = [sys.executable, "-m", "pip", "install", "--no-compile", *HELD, *_requirements(lists)]
    return subprocess.run(command).returncode


def _install_uv() -> None:
    """Install uv alone, by pip, from the list that has it."""
    text = (ROOT / "pins" / "run.txt").read_text(encoding="ascii")
    pin = re.search(r"^uv==(?:.*\\\n)*.*\n", text, re.MULTILINE)
    if pin is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "uv.txt"
        alone.write_text(pin[0], encoding="ascii")
        _with_pip([str(alone)])


def _requirements(lists: Sequence[str]) -> list[str]:
    return [part for path in lists for part in ("--requirement", path)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
