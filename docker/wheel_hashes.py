"""Holds the wheels that were fetched for the images to the digests kept with the source. Standard library alone.

    python docker/wheel_hashes.py check WHEELS docker/wheels-cpu.txt    exit status 1, and which, where one is another
    python docker/wheel_hashes.py write WHEELS > docker/wheels-cpu.txt  after constraints.txt has changed, and only then

The list is in the form that `pip install --require-hashes -r` takes. A version pins nothing by itself: an index, or
whoever stands before it, can give another file under the same version.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)-.*\.whl")
_LINE = re.compile(r"(?P<name>\S+)==(?P<version>\S+) --hash=sha256:(?P<digest>[0-9a-f]{64})")


def written(wheels: Path) -> str:
    """A line for each wheel: its project, its version, its SHA-256."""
    lines = [
        f"{name}=={version} --hash=sha256:{digest}\n" for (name, version), digest in _found(wheels).items()
    ]
    return "# The wheels of the images. Made by: docker/wheel_hashes.py write\n" + "".join(sorted(lines))


def differences(wheels: Path, listed: Path) -> list[str]:
    """What is another file than listed, not listed, or listed and not there; in words."""
    lines = [
        line for line in listed.read_text(encoding="ascii").splitlines() if line and not line.startswith("#")
    ]
    expected: dict[tuple[str, str], str] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            return [f"{listed}: no pin with its digest: {line[:80]}"]
        expected[match["name"], match["version"]] = match["digest"]
    found = _found(wheels)
    wrong = []
    for name, version in sorted(found.keys() | expected.keys()):
        got, wanted = found.get((name, version)), expected.get((name, version))
        if got != wanted:
            wrong.append(
                f"{name} {version}: {got or 'no wheel'} instead of {wanted or 'none: it is not listed'}"
            )
    return wrong


def _found(wheels: Path) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for path in sorted(wheels.glob("*.whl")):
        match = _WHEEL.fullmatch(path.name)
        if match is None:
            sys.exit(f"{path.name} is no wheel's name")
        project = re.sub(r"[-_.]+", "-", match["name"]).lower()
        with path.open("rb") as stream:
            found[project, match["version"]] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


if __name__ == "__main__":
    if sys.argv[1] == "write":
        sys.stdout.write(written(Path(sys.argv[2])))
    else:
        problems = differences(Path(sys.argv[2]), Path(sys.argv[3]))
        for problem in problems:
            print(f"wheel_hashes: {problem}", file=sys.stderr)
        sys.exit(bool(problems))
