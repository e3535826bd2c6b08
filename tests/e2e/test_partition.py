"""A site's network is cut for longer than a round and healed: the run goes on without it, and takes it back."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import pytest

from tests.faults.links import RelayLink
from tests.faults.partition import CUT_SITE, ROUNDS, partition, partition_as_text
from tests.faults.tiny_sites import TINY_SITES


@pytest.mark.e2e
@pytest.mark.long
def test_a_site_that_was_cut_off_takes_part_again_as_the_same_node(tmp_path: Path) -> None:
    result = partition(tmp_path)
    print(partition_as_text(result))  # says whether by a namespace or by a relay
    assert result.same_node
    assert min(result.missed) in (2, 3)  # a busy machine may cut after the second reply
    assert set(result.missed.values()) == {"FM-F405"}
    assert set(result.missed) | set(result.took_part) == set(range(1, ROUNDS + 1))
    assert result.took_part[-1] == ROUNDS
    assert result.status == "partial"
    said = [shortfall for shortfall in str(result.status_reason).split("; ") if CUT_SITE in shortfall]
    spans = [[int(number) for number in re.findall(r"[0-9]+", one.partition(" without ")[0])] for one in said]
    named = [number for span in spans for number in range(span[0], span[-1] + 1)]
    assert named == list(
        result.missed
    )  # on a busy machine another site may miss one too, and is named as well
    assert result.tested == TINY_SITES
    assert result.held
    run = tmp_path / "coordinator" / "runs" / "partition"
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    missing = list[int]()
    for event in events:
        if event["event"] == "reply-missing" and event["site"] == CUT_SITE:
            missing.append(event["round"])
        elif (
            event["event"] == "round-abandoned"
        ):  # on a busy machine: asked again, and what was missing counts no more
            missing = [number for number in missing if number != event["round"]]
    assert missing == list(result.missed)
    completed = [event["sites"] for event in events if event["event"] == "round-completed"]
    assert [CUT_SITE in sites for sites in completed] == [n in result.took_part for n in range(1, ROUNDS + 1)]


def test_a_relay_that_is_cut_holds_what_is_sent_and_brings_it_when_it_is_healed() -> None:
    link = RelayLink()
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, _, port = link.address(server.getsockname()[1]).rpartition(":")
            with socket.create_connection((host, int(port))) as near:
                far, _ = server.accept()
                with far:
                    near.sendall(b"before")
                    assert far.recv(16) == b"before"  # the positive control
                    link.cut()
                    time.sleep(0.05)
                    near.sendall(b"during")
                    far.settimeout(0.3)
                    with pytest.raises(TimeoutError):
                        far.recv(16)
                    link.heal()
                    far.settimeout(60.0)
                    assert far.recv(16) == b"during"
    finally:
        link.close()
