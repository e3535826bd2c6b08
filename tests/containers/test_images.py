"""What is in the images, and what is not."""

from __future__ import annotations

import json
import time

import pytest

from tests.containers.engine import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

NAMES = ("coordinator", "site", "proxy")

TOOLS = (
    *("apt", "apt-get", "dpkg", "pip", "pip3", "uv", "uvx", "conda", "easy_install", "npm"),
    *("cc", "gcc", "g++", "clang", "as", "ld", "make", "cmake", "rustc", "go", "nvcc", "perl"),
    *("curl", "wget", "nc", "ssh", "sudo", "gdb"),
)


def in_shell(engine: Engine, image: str, script: str, *options: str) -> str:
    return engine.docker(
        "run", "--rm", "--network", "none", *options, "--entrypoint", "bash", image, "-c", script
    )


def in_python(engine: Engine, image: str, program: str) -> str:
    return engine.docker("run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", program)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_no_compiler_and_no_package_manager(
    engine: Engine, images: dict[str, str], name: str
) -> None:
    script = f"for tool in bash {' '.join(TOOLS)}; do command -v $tool; done; true"
    found = in_shell(engine, images[name], script).split()
    assert [path.rpartition("/")[2] for path in found] == ["bash"]  # the control: what is there is found


@pytest.mark.parametrize("name", ["coordinator", "site"])
def test_python_finds_no_package_manager(engine: Engine, images: dict[str, str], name: str) -> None:
    program = (
        "import importlib.util as u; "
        "print(*(m for m in ('fedminet', 'pip', 'uv', 'ensurepip') if u.find_spec(m) is not None))"
    )
    assert in_python(engine, images[name], program) == "fedminet"


@pytest.mark.parametrize("name", NAMES)
def test_no_program_in_an_image_changes_its_user(engine: Engine, images: dict[str, str], name: str) -> None:
    script = "find / -xdev -perm /6000 -type f 2>/dev/null | wc -l; find / -xdev -type f -name bash | wc -l"
    n_setuid, n_found = in_shell(engine, images[name], script, "--user", "0").split()
    assert (n_setuid, int(n_found) >= 1) == ("0", True)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_declares_its_user_its_health_and_its_signal(
    engine: Engine, images: dict[str, str], name: str
) -> None:
    (found,) = json.loads(engine.docker("image", "inspect", images[name]))
    config = found["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize("name", ["coordinator", "site"])
def test_the_installed_versions_are_the_pinned_ones(
    engine: Engine, images: dict[str, str], name: str
) -> None:
    from tests.support.repository import ROOT

    program = (
        "import importlib.metadata as m; "
        "print(*(d.metadata['Name'].lower().replace('_', '-') + '==' + d.version for d in m.distributions()))"
    )
    found = in_python(engine, images[name], program).split()
    installed = {item.split("==")[0]: item.split("==")[1].split("+")[0] for item in found}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    assert {"torch", "flwr", "numpy"} <= set(installed)
    assert {n: v for n, v in installed.items() if n != "fedminet"} == {
        n: pinned.get(n, "not pinned") for n in installed if n != "fedminet"
    }


def test_both_images_hold_the_same_wheel(engine: Engine, images: dict[str, str]) -> None:
    program = (
        "import hashlib, importlib.metadata as m; "
        "print(hashlib.sha256(m.distribution('fedminet').read_text('RECORD').encode()).hexdigest())"
    )
    digests = {in_python(engine, images[name], program) for name in ("coordinator", "site")}
    assert len(digests) == 1


def test_both_images_share_the_large_layer_and_what_was_taken_away_is_in_none(
    engine: Engine, images: dict[str, str]
) -> None:
    layers = {}
    for name in NAMES:
        (found,) = json.loads(engine.docker("image", "inspect", images[name]))
        layers[name] = found["RootFS"]["Layers"]
    assert layers["coordinator"][0] == layers["site"][0]
    assert {name: len(of_image) for name, of_image in layers.items()} == {
        "coordinator": 2,
        "site": 2,
        "proxy": 1,
    }


def test_a_container_without_a_folder_says_what_is_missing_and_ends(
    engine: Engine, images: dict[str, str]
) -> None:
    for name, command in (("coordinator", "server init"), ("site", "site init")):
        began = time.monotonic()
        done = engine.tried(
            "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", images[name]
        )
        assert done.returncode not in (0, 137)
        assert f"fedminet {command}" in done.stderr
        assert time.monotonic() - began < 60
