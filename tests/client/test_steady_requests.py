"""No answer is lost between pynetdicom's threads; and its private names are where they were."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from pynetdicom import Association, build_context
from pynetdicom.sop_class import Verification

from client.receive.inbox import Inbox
from client.receive.peer import Caller, Peer, associated
from client.receive.receiver import Receiver
from client.receive.steady_requests import _Checkpoint
from sites.settings.receive_settings import ReceiveSettings


def test_who_passes_the_checkpoint_is_not_said_to_be_paused() -> None:
    """With pynetdicom's own event it still is, and a request that is sent then loses its answer."""
    reactor = SimpleNamespace(_is_paused=True)
    checkpoint = _Checkpoint(reactor)
    assert checkpoint.wait(1)
    assert not reactor._is_paused
    reactor._is_paused = True
    checkpoint.clear()
    assert not checkpoint.wait(0.05)
    assert reactor._is_paused


def test_every_request_has_its_answer(tmp_path: Path) -> None:
    settings = ReceiveSettings(calling_titles=("FEDMINET",), port=0)
    with Receiver(settings, Inbox(tmp_path / "inbox", key=b"k" * 32)).running() as port:
        caller, peer = Caller(timeout_s=60), Peer("FEDMINET", "127.0.0.1", port)
        with associated(caller, peer, [build_context(Verification)]) as association:
            answers = [association.send_c_echo().get("Status") for _ in range(200)]
    assert answers == [0] * 200


def test_the_private_names_are_where_they_were() -> None:
    used = set(Association._run_reactor.__code__.co_names)
    assert {"_reactor_checkpoint", "_is_paused"} <= used, "see client/receive/steady_requests.py"
