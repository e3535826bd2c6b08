"""Through how many files a message goes at a site.

Counted: files of client/ and of minet_core/training in which a function runs while a site answers one `train` message
on the in-process grid: FedAvg, second round, so that moments and a kept round are read too. Files that are imported
only do not count. Neither do those of the other rooms: how weights, stores and images are handled is not the road.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import fedminet.simulation.simulate as simulation
from client.app import build_client_app
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.repository import ROOT

MAX_FILES = 14
COUNTED = ("client/", "minet_core/training/")


def test_a_message_to_train_enters_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT) and frame.f_code.co_name != "<module>":
            entered.add(path.relative_to(ROOT).as_posix())

    def watched(locate: Any) -> Any:
        app, messages = build_client_app(locate), []

        def answer(*, message: Any, context: Any) -> Any:
            messages.append(message)
            if message.metadata.message_type != "train" or len(messages) != 2:
                return app(message=message, context=context)
            former = sys.getprofile()
            sys.setprofile(note)
            try:
                return app(message=message, context=context)
            finally:
                sys.setprofile(former)

        return answer

    monkeypatch.setattr(simulation, "build_client_app", watched)
    federation = tiny_federation(rounds=2, sites=("sms",), participation={"quorum": 1, "deadline_s": 60.0})
    homes = make_tiny_sites(tmp_path / "made", names=("sms",))
    assert (
        simulation.federate(tmp_path / "run", federation, homes, lambda *_: None).state.status == "completed"
    )
    road = sorted(path for path in entered if path.startswith(COUNTED))
    assert {"client/rounds/round.py", "minet_core/training/local_update.py"} <= set(road)
    assert len(road) <= MAX_FILES, "\n".join(road)
