"""The phantom federation in containers, through nginx with client certificates: the model of one without containers."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from tests.containers.federation import Federation
from tests.containers.reference_run import SCHEDULE, SITES, ReferenceRun

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

RUN_DEADLINE_S = 900.0


def contents(path: Path) -> tuple[dict[str, object], bytes]:
    """The manifest of a model's file, and all its other bytes: names, shapes and values of every tensor."""
    content = path.read_bytes()
    (n_header,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n_header])
    manifest = json.loads(header.pop("__metadata__")["fedminet"])
    return manifest, json.dumps(header, sort_keys=True).encode() + content[8 + n_header :]


def sha256(path: Path) -> str:
    """Of a model: its tensors to the last bit. Its file says beside them by which Python it was written."""
    return hashlib.sha256(contents(path)[1]).hexdigest()


def without_python(path: Path) -> dict[str, object]:
    """The manifest but for the version of Python, and for its own digest, which covers that."""
    manifest, _ = contents(path)
    provenance = manifest["manifest"]["provenance"]  # type: ignore[index]
    return {
        **manifest,
        "sha256": "",
        "manifest": {**manifest["manifest"], "provenance": {**provenance, "python": ""}},
    }  # type: ignore[dict-item]


def test_a_run_in_containers_comes_to_the_model_of_a_run_without(
    federation: Federation, reference: ReferenceRun
) -> None:
    process = federation.start_run("demo")
    output, _ = process.communicate(timeout=RUN_DEADLINE_S)
    assert process.returncode == 0, output
    run = federation.run("demo")
    assert run.state.status == "completed"
    assert run.state.round == SCHEDULE.rounds
    assert sha256(run.global_model) == sha256(reference.run.global_model)
    assert without_python(run.global_model) == without_python(reference.run.global_model)
    for number in range(1, SCHEDULE.rounds + 1):
        assert sha256(run.checkpoint(number)) == sha256(reference.run.checkpoint(number))
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["sites"]) == set(SITES)
    print(f"SHA-256 of both global models: {sha256(run.global_model)}")


def test_every_request_of_a_site_came_through_the_proxy_with_its_certificate(federation: Federation) -> None:
    lines = federation.engine.docker("logs", federation.container("proxy")).splitlines()
    calls = [line for line in lines if '"POST /v1/fleet/' in line]
    assert calls
    for site in SITES:
        assert any(f'site="{site}" "CN={site}" SUCCESS' in line and " 200 " in line for line in calls)


def test_the_coordinator_saw_no_image_and_no_name_of_a_patient(federation: Federation) -> None:
    """Positive control: the same names are found at the site."""
    stores = [federation.made / "sites" / site / "store" for site in SITES]
    pseudonyms = {path.stem for store in stores for path in store.glob("*.h5")}
    assert pseudonyms
    kept = b"".join(
        path.read_bytes() for path in (federation.made / "coordinator").rglob("*") if path.is_file()
    )
    assert not [name for name in pseudonyms if name.encode() in kept]
