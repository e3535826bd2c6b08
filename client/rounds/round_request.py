"""A request of the server, held to what this site was admitted to before a number of it is used."""

from __future__ import annotations

import hashlib
import logging
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from client.admission.policy import require_policy
from client.rounds.round_cache import CachedRound, RoundCache
from client.site_home import SiteHome
from minet_core.errors import FederationMismatch, ReplyRefused, StaleMessage, UpdateSuspect, WeightsRefused
from minet_core.ledger.records import HEAD as LEDGER_HEAD
from minet_core.models.base import SuperResolver
from minet_core.protocol import messages
from minet_core.protocol.exchange_plan import ExchangePlan, initial_weights
from minet_core.protocol.flat_form import FLAT, MAX_BYTES, WEIGHTS, flat_values, records_of
from minet_core.settings.federation import FederationSettings
from minet_core.training.device import preferred_device
from minet_core.weights.manifest import load_weights
from minet_core.weights.payload import unpack
from minet_core.weights.update_norm import update_norm
from sites.settings.site_settings import LimitSettings
from sites.store.store import Store

HEAD = "head/"
INCOMING = "incoming/"
"""Beginnings of what a site keeps of a round beside its answer: its personal head, the weights that came in."""


@dataclass(frozen=True)
class RoundRequest:
    """A checked request. shared: the global weights. memory: what of the algorithm's memory came with them.

    digest: SHA-256 of its parcel. coordinator_head: of the coordinator's ledger when it asked.
    """

    home: SiteHome
    federation: FederationSettings
    agreement: ExchangePlan
    round_number: int
    run: str
    digest: str
    shared: Mapping[str, NDArray[Any]]
    memory: Mapping[str, NDArray[Any]]
    coordinator_head: str

    @property
    def binding(self) -> dict[str, int]:
        """The figures that bind a reply to this request."""
        return {
            "round": self.round_number,
            "run": messages.run_number(self.run, federation=self.federation.digest()),
        }

    def is_answered_by(self, done: CachedRound) -> bool:
        """Whether a kept round is the answer to this very request: of its weights, under its federation file."""
        return done.request == self.digest and all(
            done.figures.get(name) == value for name, value in self.binding.items()
        )

    def model(self, former: CachedRound | None) -> SuperResolver:
        """The global model, with this site's own head where the federation leaves it one."""
        model, first = initial_weights(self.federation)
        heads = {name: first[name] for name in first if name not in self.shared}
        if former is not None:
            heads = {name: former.site[f"{HEAD}{name}"] for name in heads}
        load_weights(model, {**self.shared, **heads})
        return model.to(preferred_device(self.home.settings().compute.device))


def parse_request(message: Message, site_folder: Path) -> RoundRequest:
    """The request in `message`.

    Raises ReplyRefused (FM-F401) for other records than agreed, FederationMismatch (FM-C104) for another federation
    file or what names no run, PolicyRefused (FM-F420) for what the site's own policy does not allow, WeightsRefused
    (FM-M302).
    """
    home = SiteHome.at(site_folder)
    federation = home.federation()
    if set(message.content) != {messages.MODEL, messages.REQUEST}:
        raise ReplyRefused("the request has the wrong records", got=sorted(message.content))
    request, weights = message.content[messages.REQUEST], message.content[messages.MODEL]
    if not isinstance(request, ConfigRecord) or request.get("federation") != federation.digest():
        raise FederationMismatch(
            "the request names another federation file",
            got=request.get("federation") if isinstance(request, ConfigRecord) else None,
            expected=federation.digest(),
            action="Ask the coordinator for a kit of the present federation",
        )
    round_number, run = request.get("round"), request.get("run")
    if not isinstance(round_number, int) or not 1 <= round_number <= federation.rounds:
        raise FederationMismatch("the request's round is out of range", got=round_number)
    if not isinstance(run, str) or not messages.RUN_NAME.fullmatch(run):
        raise FederationMismatch("the request's run has no plain name")
    head = request.get("ledger")
    if set(request) != messages.REQUEST_KEYS or not isinstance(head, str) or not LEDGER_HEAD.fullmatch(head):
        raise ReplyRefused("the request has other values than agreed", got=f"{len(request)} values")
    if not isinstance(weights, ArrayRecord) or set(weights) != {messages.PARCEL}:
        raise WeightsRefused("the request's weights are not one parcel")
    agreement = require_policy(home.settings(), federation, cohort=Store(home.store).cohort)
    parcel = weights[messages.PARCEL].numpy()
    arrays = unpack(parcel, manifest=agreement.request_manifest)
    names = {name for name, _, _ in agreement.shared.entries}
    return RoundRequest(
        home=home,
        federation=federation,
        agreement=agreement,
        round_number=round_number,
        run=run,
        digest=hashlib.sha256(parcel.tobytes()).hexdigest(),
        shared={name: array for name, array in arrays.items() if name in names},
        memory={name: array for name, array in arrays.items() if name not in names},
        coordinator_head=head,
    )


def require_not_stale(incoming: RoundRequest, kept: RoundCache) -> None:
    """Raise StaleMessage (FM-F408) for a round that lies before one this site has answered in the same run."""
    last = kept.last()
    if last is not None and incoming.round_number < last.round_number:
        raise StaleMessage(
            "the server asks for a round that is over", got=incoming.round_number, expected=last.round_number
        )


def check_global_update_norm(
    incoming: RoundRequest, former: CachedRound | None, limits: LimitSettings
) -> None:
    """Hold the change of the global model since this site's last round against the site's own updates.

    A mean moves no further than its members do; where the server takes steps of its own (FedAdam, SCAFFOLD) nothing
    follows, and nothing is held. Raises UpdateSuspect (FM-F410) where the site's own limit says so;
    else the site's log has it.
    """
    if former is None or not former.norms or incoming.agreement.algorithm.name in ("fedadam", "scaffold"):
        return
    before = {name: former.site[f"{INCOMING}{name}"] for name in incoming.shared}
    change = update_norm(incoming.shared, before)
    rounds = incoming.round_number - former.round_number
    bound = limits.global_change_factor * statistics.median(former.norms) * rounds
    if change <= bound:
        return
    if limits.refuse_global_change:
        raise UpdateSuspect(
            "the global model moved further than its sites can move it", got=change, expected=bound
        )
    logging.getLogger("fedminet.site").warning(
        "round %d: the global model moved by %.3g, more than %.3g", incoming.round_number, change, bound
    )


def is_flat(message: Message) -> bool:
    """Whether a request is one flat record."""
    return set(message.content) == {FLAT} and isinstance(message.content[FLAT], ConfigRecord)


def take_apart(message: Message) -> None:
    """Put the records of a flat request into the place of its one record.

    Raises ReplyRefused (FM-F401) for names of another form; weights that are no bytes stay a value, to be refused as
    what is no parcel.
    """
    flat = message.content[FLAT]
    assert isinstance(flat, ConfigRecord)
    values = dict(flat)
    parcel = values.pop(WEIGHTS, None)
    content = RecordDict({name: ConfigRecord(kept) for name, kept in records_of(values).items()})
    if isinstance(parcel, bytes):
        content[messages.MODEL] = ArrayRecord({messages.PARCEL: Array(np.frombuffer(parcel, np.uint8))})
    message.content = content


def flattened(content: RecordDict) -> RecordDict:
    """A reply in one record; one without weights, which has no more parts than that, or with large ones as it is."""
    weights = content.get(messages.MODEL)
    if not isinstance(weights, ArrayRecord) or len(weights[messages.PARCEL].data) > MAX_BYTES:
        return content
    parcel = weights[messages.PARCEL].data[messages.NPY_HEAD_BYTES :]
    records: dict[str, dict[str, Any]] = {
        messages.METRICS: dict(content.metric_records[messages.METRICS]),
        messages.MODEL: {messages.PARCEL: parcel},
    }
    values: dict[str, Any] = flat_values(records)
    return RecordDict({FLAT: ConfigRecord(values)})
