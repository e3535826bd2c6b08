"""The site's ledger: what the coordinator asked, what left, what was refused, and what the hospital did.

It lies in the folder of the kept rounds, which the trainer and the hospital's commands can write to; the node, in a
container of its own, sees no request's content and writes nothing here. A record holds digests, codes, counts and the
figures as they were sent; no path, no patient, no text of an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message

from client.rounds.round_request import RoundRequest
from client.site_home import SiteHome
from minet_core.ledger.records import HEAD, Head, Ledger
from minet_core.protocol import messages


def site_ledger(home: SiteHome) -> Ledger:
    """The ledger of a site."""
    return Ledger(home.state)


def note_answer(
    incoming: RoundRequest,
    *,
    task: str,
    figures: Mapping[str, int | float],
    answer: str | None,
    repeated: bool = False,
    n_counted: int | None = None,
) -> Head:
    """Write down an answer that is about to leave; the head that it leaves with.

    answer: SHA-256 of its parcel. repeated: whether it had been given before. n_counted: the study's requests so far.
    """
    return site_ledger(incoming.home).append(
        "answered",
        task=task,
        study=incoming.federation.name,
        federation=incoming.federation.digest(),
        run=incoming.run,
        round=incoming.round_number,
        request=incoming.digest,
        answer=answer,
        figures=dict(figures),
        repeated=repeated,
        counted=n_counted,
        coordinator_head=incoming.coordinator_head,
    )


def note_refusal(home: SiteHome, message: Message, *, task: str, code: str) -> None:
    """Write down a request that was answered with a code; of what it says only what has the agreed form."""
    site_ledger(home).append("refused", task=task, code=code, **_said(message))


def _said(message: Message) -> dict[str, Any]:
    request = message.content.get(messages.REQUEST)
    said: Mapping[str, Any] = request if isinstance(request, ConfigRecord) else {}
    run, number = said.get("run"), said.get("round")
    federation, head = said.get("federation"), said.get("ledger")
    return {
        "run": run if isinstance(run, str) and messages.RUN_NAME.fullmatch(run) else None,
        "round": number if isinstance(number, int) and 0 <= number < 2**53 else None,
        "federation": federation if _is_digest(federation) else None,
        "coordinator_head": head if _is_digest(head) else None,
        "request": _digest_of(message),
    }


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and HEAD.fullmatch(value) is not None


def _digest_of(message: Message) -> str | None:
    """SHA-256 of what the parcel of a request holds, whatever that is; None where there is none."""
    record = message.content.get(messages.MODEL)
    if not isinstance(record, ArrayRecord) or messages.PARCEL not in record:
        return None
    data = record[messages.PARCEL].data
    return hashlib.sha256(
        data[messages.NPY_HEAD_BYTES :] if data.startswith(b"\x93NUMPY") else data
    ).hexdigest()
