"""The offline bundle: verified by the commands of docs/containers.md, and refused when it was altered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.containers.engine import Engine
from tests.support.repository import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]


VERIFY = (
    ("ssh-keygen", "-l", "-f", "signer.pub"),
    ("bash", "-c", "ssh-keygen -Y check-novalidate -n fedminet-bundle -s SHA256SUMS.sig < SHA256SUMS"),
    ("sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"),
)


@pytest.fixture(scope="module")
def bundle(engine: Engine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    key = folder / "release"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    kit = folder / "kit"
    kit.mkdir()
    (kit / "kit.json").write_text("{}\n")
    done = subprocess.run(
        [ROOT / "docker" / "bundle.sh", folder / "out", key, kit],
        env={**os.environ, **engine.environment},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "out"


def verified(folder: Path) -> bool:
    said = []
    for command in VERIFY:
        done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            return False
        said.append(done.stdout)
    fingerprint = said[0].split()[1]
    return fingerprint in said[1]  # the signature is by the key whose fingerprint is compared by telephone


def test_a_bundle_is_verified(bundle: Path) -> None:
    assert verified(bundle)
    assert (bundle / "kit" / "kit.json").is_file()


@pytest.mark.parametrize("altered", ["images/site.tar.gz", "compose.site.yaml", "SHA256SUMS", "kit/kit.json"])
def test_a_bundle_that_was_altered_is_refused(bundle: Path, tmp_path: Path, altered: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy, copy_function=os.link)
    content = (copy / altered).read_bytes()
    (copy / altered).unlink()
    (copy / altered).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not verified(copy)


def test_a_bundle_signed_by_another_is_told_by_its_fingerprint(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy, copy_function=os.link)
    (copy / "SHA256SUMS.sig").unlink()
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "fedminet-bundle", "-f", other, copy / "SHA256SUMS"],
        check=True,
        capture_output=True,
    )
    assert not verified(copy)


def test_an_image_that_was_loaded_is_the_one_in_the_list(
    engine: Engine, images: dict[str, str], bundle: Path
) -> None:
    listed = dict(line.split() for line in (bundle / "images" / "images.txt").read_text().splitlines())
    assert set(listed) == set(images.values())
    proxy = images["proxy"]
    engine.docker("tag", proxy, "fedminet/kept:1")
    engine.docker("image", "rm", proxy)
    engine.docker("load", "--input", bundle / "images" / "proxy.tar.gz")
    assert engine.docker("image", "inspect", "--format", "{{.Id}}", proxy) == listed[proxy]
    engine.docker("image", "rm", "fedminet/kept:1")


@pytest.mark.parametrize("name", ["coordinator", "site", "proxy"])
def test_a_bill_of_materials_is_of_cyclonedx_own_schema(bundle: Path, name: str) -> None:
    text = (bundle / "sbom" / f"{name}.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    purls = {component["purl"].split("@")[0] for component in json.loads(text)["components"]}
    expected = (
        {"pkg:deb/debian/nginx"}
        if name == "proxy"
        else {"pkg:pypi/torch", "pkg:pypi/fedminet", "pkg:pypi/flwr"}
    )
    assert expected <= purls
    assert "pkg:pypi/pip" not in purls
    assert "pkg:pypi/uv" not in purls
