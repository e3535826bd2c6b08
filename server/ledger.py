"""The coordinator's ledger: what was asked of the sites, which replies came, and what operators did.

One for all runs, beside them: runs/ledger.jsonl. It holds digests, codes, site names and the agreed figures, and of
each reply the head of that site's own ledger. What a run writes into it: `server.rounds.ledger_records`.
"""

from __future__ import annotations

from typing import Any

from minet_core.ledger.records import Ledger
from server.server_home import ServerHome


def ledger_of(home: ServerHome) -> Ledger:
    """The ledger of a coordinator."""
    return Ledger(home.runs)


def note_act(home: ServerHome, act: str, **details: Any) -> None:
    """Write down what an operator did; details: names of sites and runs, digests."""
    ledger_of(home).append(act, **details)
