"""The phantom federation in containers, through nginx with client certificates: the model of one without containers."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.runs.run_directory import RunDirectory
from tests.containers.federation import Federation
from tests.containers.reference_run import SCHEDULE, SITES, ReferenceRun

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

RUN_DEADLINE_S = 900.0
LOOKED_INTO = ("node-sms", "trainer-sms")


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


@dataclass(frozen=True)
class Watched:
    """The run that was conducted, and what `fedminet site status` said meanwhile in the containers of one site."""

    run: RunDirectory
    pages: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def demo(federation: Federation) -> Watched:
    process = federation.start_run("demo")
    pages: dict[str, list[dict[str, Any]]] = {service: [] for service in LOOKED_INTO}
    ends = time.monotonic() + RUN_DEADLINE_S
    while process.poll() is None and time.monotonic() < ends:
        for service, said in pages.items():
            code, page = federation.site_status(service)
            assert code == 0, page
            said.append(page)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return Watched(federation.run("demo"), pages)


def test_a_run_in_containers_comes_to_the_model_of_a_run_without(
    demo: Watched, reference: ReferenceRun
) -> None:
    run = demo.run
    assert run.state.status == "completed"
    assert run.state.round == SCHEDULE.rounds
    assert sha256(run.global_model) == sha256(reference.run.global_model)
    assert without_python(run.global_model) == without_python(reference.run.global_model)
    for number in range(1, SCHEDULE.rounds + 1):
        assert sha256(run.checkpoint(number)) == sha256(reference.run.checkpoint(number))
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["sites"]) == set(SITES)
    print(f"SHA-256 of both global models: {sha256(run.global_model)}")


@pytest.mark.parametrize("service", LOOKED_INTO)
def test_either_container_of_a_site_says_that_it_is_registered_configured_and_training(
    federation: Federation, demo: Watched, service: str
) -> None:
    """The node sees neither the store nor the tasks, and the trainer neither the keys nor the server."""
    pages = demo.pages[service]
    assert pages
    for page in pages:
        assert page["healthy"] is True
        assert page["client"]["runs"] is True
        assert {name: part["runs"] for name, part in page["parts"].items()} == {"node": True, "trainer": True}
        assert page["registered"]["is"] is True
        assert page["configured"]["is"] is True, page["configured"]
    working = [page["training"]["work"] for page in pages if page["training"]["is"]]
    assert working
    assert {work["run"] for work in working} == {"demo"}
    assert {work["round"] for work in working} <= set(range(1, SCHEDULE.rounds + 1))
    federation.wait(
        lambda: federation.site_status(service)[1]["training"]["work"] is None,
        deadline_s=60,
        what="nothing is in work",
    )
    _, page = federation.site_status(service)
    last = page["last_round"]
    assert (last["run"], last["round"], last["reply_sent"]) == ("demo", SCHEDULE.rounds, True)
    assert time.time() - page["server"]["last_answer"] < 30


def test_every_request_of_a_site_came_through_the_proxy_with_its_certificate(
    federation: Federation, demo: Watched
) -> None:
    lines = federation.engine.docker("logs", federation.container("proxy")).splitlines()
    calls = [line for line in lines if '"POST /v1/fleet/' in line]
    assert calls
    for site in SITES:
        assert any(f'site="{site}" "CN={site}" SUCCESS' in line and " 200 " in line for line in calls)


def test_the_coordinator_saw_no_image_and_no_name_of_a_patient(federation: Federation, demo: Watched) -> None:
    """Positive control: the same names are found at the site."""
    stores = [federation.made / "sites" / site / "store" for site in SITES]
    pseudonyms = {path.stem.split("-")[0] for store in stores for path in store.glob("*.h5")}
    assert pseudonyms
    kept = b"".join(
        path.read_bytes() for path in (federation.made / "coordinator").rglob("*") if path.is_file()
    )
    assert not [name for name in pseudonyms if name.encode() in kept]
