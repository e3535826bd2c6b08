"""The images of this tree, built by the scripts of docker/ in an engine.

    python -m tests.containers.images

builds them in the engine that the tests will find, so that theirs is a matter of seconds: an engine of the tests' own
keeps its layers on disk.
"""

from __future__ import annotations

import os
import subprocess

from tests.containers.engine import Engine, engine_here
from tests.support.repository import ROOT


def built_images(engine: Engine) -> dict[str, str]:
    """By name, the images of coordinator, site and proxy, built now from this tree."""
    environment = {**os.environ, **engine.environment}
    if "BASE_IMAGE" not in environment:
        made = _script("base-image.sh", environment)
        environment |= dict(line.split("=", 1) for line in made.split())
    built = _script("build.sh", environment).split()
    return {image.split("/")[1].split(":")[0]: image for image in built}


def _script(name: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [ROOT / "docker" / name],
        env=environment,
        text=True,
        capture_output=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


if __name__ == "__main__":
    with engine_here() as own:
        print(*built_images(own).values(), sep="\n")
