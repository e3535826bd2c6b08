"""The Flower ClientApp of a site.

Wires and computes nothing. Whatever fails, the server gets a code and no text: an exception that left this
function would travel to the coordinator's log with its message, and a message may hold a path of the site.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from minet_core.errors import code_of
from minet_core.protocol import messages
from minet_core.runtime.processes.flower_environment import SITE_VARIABLE


def build_client_app(locate: Callable[[Context], Path]) -> ClientApp:
    """A ClientApp whose site folder is found by `locate`."""
    client_app = ClientApp()

    @client_app.train()
    def train(message: Message, context: Context) -> Message:
        return _guarded(message, context, "train")

    @client_app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _guarded(message, context, "evaluate")

    def _guarded(message: Message, context: Context, task: str) -> Message:
        try:
            from client.rounds.round import HANDLERS
            from client.rounds.round_request import flattened, is_flat, take_apart

            flat = is_flat(message)
            if flat:
                take_apart(message)
            content = HANDLERS[task](message, locate(context))
            if flat:
                content = flattened(content)
        except Exception as failure:  # every failure becomes a code; see the head of this file
            _record_on_site(failure, task)
            _note_in_ledger(failure, message, task, lambda: locate(context))
            content = RecordDict({messages.FAILURE: ConfigRecord({"code": code_of(failure)})})
        return Message(content, reply_to=message)

    return client_app


def _record_on_site(failure: Exception, task: str) -> None:
    """The full failure, in the site's own log on the site's own disk."""
    import logging

    logging.getLogger("fedminet.site").error("%s failed", task, exc_info=failure)


def _note_in_ledger(failure: Exception, message: Message, task: str, locate: Callable[[], Path]) -> None:
    """The refusal in the site's ledger. A code leaves even where that cannot be written, and nothing else does."""
    try:
        from client.ledger import note_refusal
        from client.site_home import SiteHome

        words = {"train": "train", "evaluate": "test"}
        note_refusal(SiteHome.at(locate()), message, task=words[task], code=code_of(failure))
    except Exception as broken:  # a full disk, a damaged ledger, a folder that is not there: the code leaves
        _record_on_site(broken, "the ledger")


def _from_environment(_context: Context) -> Path:
    return Path(os.environ[SITE_VARIABLE])


app = build_client_app(_from_environment)
