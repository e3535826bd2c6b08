"""What a run writes into the coordinator's ledger: each request before it leaves, and each reply."""

from __future__ import annotations

import hashlib

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from minet_core.ledger.records import Head, Ledger
from minet_core.protocol import messages
from server.rounds.replies import KeptReply
from server.runs.run_directory import RunDirectory


def with_our_head(content: RecordDict, run: RunDirectory, *, task: str) -> RecordDict:
    """Write down a request that is about to leave, and let it carry the head of the ledger with that record in it."""
    request, weights = content[messages.REQUEST], content[messages.MODEL]
    assert isinstance(request, ConfigRecord)
    assert isinstance(weights, ArrayRecord)
    # The parcel alone: the sites' ledgers have its digest.
    parcel = memoryview(weights[messages.PARCEL].data)[messages.NPY_HEAD_BYTES :]
    head = Ledger(run.path.parent).append(
        "asked",
        task=task,
        run=run.path.name,
        round=request["round"],
        federation=request["federation"],
        request=hashlib.sha256(parcel).hexdigest(),
    )
    request["ledger"] = head.sha256
    return content


def note_reply(run: RunDirectory, kept: KeptReply, *, round_number: int, found: bool = False) -> Head:
    """Write down a training reply, whether it counts or was refused, or that none came.

    found: on the disk, where a former application may have been killed before it wrote the reply down.
    """
    return _note(
        run,
        kept.site,
        task="train",
        round_number=round_number,
        figures=dict(kept.figures or {}),
        code=kept.refused,
        answer=kept.sha256,
        found=found,
    )


def note_test(
    run: RunDirectory, site: str, *, round_number: int, figures: dict[str, float], code: str | None = None
) -> Head:
    """Write down a test reply likewise."""
    return _note(run, site, task="test", round_number=round_number, figures=figures, code=code, answer=None)


def _note(
    run: RunDirectory,
    site: str,
    *,
    task: str,
    round_number: int,
    figures: dict[str, float],
    code: str | None,
    answer: str | None,
    found: bool = False,
) -> Head:
    return Ledger(run.path.parent).append(
        "reply" if code is None else "reply-refused",
        site=site,
        task=task,
        run=run.path.name,
        round=round_number,
        code=code,
        answer=answer,
        figures=messages.without_head(figures),
        site_head=messages.head_in(figures),
        found=found,
    )
