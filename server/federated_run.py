"""One run of a federation: rounds of FedAvg over the sites, then the global model on every site's test split.

Federated averaging: McMahan et al. 2017, Algorithm 1, every member in every round, weighted by the number of
training slices.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from flwr.app import MessageType
from flwr.serverapp import Grid

from minet_core import wire
from minet_core.checkpoint import describe, save_checkpoint
from minet_core.federation import FederationSettings
from minet_core.models.minet import MINet
from minet_core.runtime.errors import FedminetError, QuorumNotMet, ReplyMissing, ReplyRefused, RunFailed
from minet_core.runtime.versions import versions
from minet_core.seeds import derived_seed
from minet_core.weights import WeightManifest, learnable, weighted_mean
from server.exchange import (
    Arrays,
    Received,
    exchange,
    opened_figures,
    opened_weights,
    request,
    wait_for_members,
)
from server.run_directory import RunDirectory, Status
from server.summarise import summarise_run

JOIN_DEADLINE_S = 120.0
"""How long a run waits for its declared sites before the first round."""


@dataclass
class _Round:
    """What came of one exchange."""

    number: int
    replies: dict[str, tuple[float, Arrays]] = field(default_factory=dict)
    sites: dict[str, dict[str, object]] = field(default_factory=dict)

    def missing(self, declared: tuple[str, ...]) -> list[str]:
        return [
            site for site in declared if site not in self.sites or self.sites[site]["refused"] is not None
        ]


def run_federation(grid: Grid, run: RunDirectory, *, join_deadline_s: float = JOIN_DEADLINE_S) -> Status:
    """Run the federation of `run` to its end and return its final status.

    Every way out leaves a terminal state in the run directory; a FedminetError is recorded there by its code
    and raised again.
    """
    federation = run.federation()
    shortfalls: list[str] = []
    try:
        _start(run, federation)
        nodes = _join(grid, run, federation, deadline_s=join_deadline_s)
        weights = _train(grid, run, federation, nodes=nodes, shortfalls=shortfalls)
        _publish(run, federation, weights)
        _test(grid, run, federation, nodes=nodes, weights=weights, shortfalls=shortfalls)
    except FedminetError as failure:
        _end(run, status="failed", reason=f"{failure.code}: {failure.what}")
        raise
    except BaseException:
        _end(run, status="failed", reason="FM-S900: the server application ended unexpectedly")
        raise
    status: Status = "partial" if shortfalls else "completed"
    _end(run, status=status, reason="; ".join(shortfalls) or None)
    return status


def initial_weights(federation: FederationSettings) -> tuple[MINet, Arrays]:
    """The seeded model that round 1 begins with, and its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(federation.seed, "initial weights"))
        model = MINet(**federation.model.model_dump(), scale=federation.scale)
    return model, learnable(model)


def save_weights(path: Path, federation: FederationSettings, weights: Arrays, *, round_number: int) -> None:
    """Write the global weights as a checkpoint of this federation."""
    manifest = describe(
        weights,
        model=federation.model,
        scale=federation.scale,
        round_number=round_number,
        provenance={"federation": federation.name, "federation_digest": federation.digest(), **versions()},
    )
    save_checkpoint(path, weights, manifest)


def _start(run: RunDirectory, federation: FederationSettings) -> None:
    run.advance(status="running")
    run.event(
        "run-started", sites=list(federation.sites), rounds=federation.rounds, federation=federation.digest()
    )


def _join(
    grid: Grid, run: RunDirectory, federation: FederationSettings, *, deadline_s: float
) -> dict[str, int]:
    nodes = wait_for_members(
        grid,
        declared=federation.sites,
        deadline_s=deadline_s,
        on_change=lambda present: run.event("sites-online", sites=sorted(present)),
    )
    if len(nodes) < federation.quorum:
        raise QuorumNotMet(
            "too few sites are online", got=len(nodes), expected=f"at least {federation.quorum}"
        )
    return nodes


def _train(
    grid: Grid,
    run: RunDirectory,
    federation: FederationSettings,
    *,
    nodes: dict[str, int],
    shortfalls: list[str],
) -> Arrays:
    _, weights = initial_weights(federation)
    manifest = WeightManifest.of(weights)
    save_weights(run.checkpoint(0), federation, weights, round_number=0)
    for number in range(1, federation.rounds + 1):
        began = time.monotonic()
        result = _exchange_round(
            grid, run, federation, nodes=nodes, weights=weights, manifest=manifest, number=number
        )
        missing = result.missing(federation.sites)
        if len(result.replies) < federation.quorum:
            run.event("round-abandoned", round=number, valid=len(result.replies), quorum=federation.quorum)
            _record(run, result, seconds=time.monotonic() - began, aggregated=False)
            raise QuorumNotMet(
                f"round {number} was not completed: too few valid replies (missing: {', '.join(missing)})",
                got=len(result.replies),
                expected=f"at least {federation.quorum}",
            )
        if missing:
            shortfalls.append(f"round {number} without {', '.join(missing)}")
        weights = weighted_mean((site, weight, arrays) for site, (weight, arrays) in result.replies.items())
        save_weights(run.checkpoint(number), federation, weights, round_number=number)
        _record(run, result, seconds=time.monotonic() - began, aggregated=True)
        run.event("round-completed", round=number, sites=sorted(result.replies))
        run.advance(round=number)
    return weights


def _exchange_round(
    grid: Grid,
    run: RunDirectory,
    federation: FederationSettings,
    *,
    nodes: dict[str, int],
    weights: Arrays,
    manifest: WeightManifest,
    number: int,
) -> _Round:
    result = _Round(number)
    run.event("round-started", round=number, sites=sorted(nodes))
    content = request(weights, round_number=number, run=run.path.name, digest=federation.digest())
    bytes_down = sum(len(array.data) for array in content.array_records[wire.MODEL].values())
    for received in exchange(
        grid,
        content,
        message_type=MessageType.TRAIN,
        nodes=nodes,
        round_number=number,
        deadline_s=federation.round_deadline_s,
    ):
        _take_reply(run, result, received, manifest=manifest, bytes_down=bytes_down)
    for site in sorted(set(nodes) - set(result.sites)):
        run.event("reply-missing", round=number, site=site)
        result.sites[site] = {"refused": ReplyMissing.code, "bytes_down": bytes_down}
    return result


def _take_reply(
    run: RunDirectory, result: _Round, received: Received, *, manifest: WeightManifest, bytes_down: int
) -> None:
    site = received.site
    entry: dict[str, object] = {"seconds": received.seconds, "bytes_down": bytes_down, "refused": None}
    result.sites[site] = entry
    try:
        figures = opened_figures(
            received.message, agreed=wire.TRAIN_FIGURES, records={wire.MODEL, wire.METRICS}
        )
        arrays, entry["bytes_up"] = opened_weights(received.message, manifest=manifest)
    except FedminetError as failure:
        code = refusal_code(failure)
        entry["refused"] = code
        run.event("reply-refused", round=result.number, site=site, code=code, reason=failure.what)
        return
    result.replies[site] = (figures["n_training_slices"], arrays)
    entry["train_loss"] = figures["train_loss"]
    entry["train_seconds"] = figures["seconds"]
    entry["n_training_slices"] = int(figures["n_training_slices"])
    entry["validation"] = {score: figures[f"validation_{score}"] for score in wire.SCORES}
    run.event("reply-accepted", round=result.number, site=site)


def refusal_code(failure: FedminetError) -> str:
    """The site's own code where its client sent one, else the code of our refusal."""
    if isinstance(failure, ReplyRefused) and isinstance(failure.got, str) and failure.got.startswith("FM-"):
        return failure.got
    return failure.code


def _test(
    grid: Grid,
    run: RunDirectory,
    federation: FederationSettings,
    *,
    nodes: dict[str, int],
    weights: Arrays,
    shortfalls: list[str],
) -> None:
    """Ask every site for the scores of the final model on its test split; keep them per site."""
    run.event("test-started", sites=sorted(nodes))
    content = request(weights, round_number=federation.rounds, run=run.path.name, digest=federation.digest())
    tested: dict[str, dict[str, float]] = {}
    for received in exchange(
        grid,
        content,
        message_type=MessageType.EVALUATE,
        nodes=nodes,
        round_number=federation.rounds + 1,
        deadline_s=federation.round_deadline_s,
    ):
        try:
            tested[received.site] = opened_figures(
                received.message, agreed=wire.TEST_FIGURES, records={wire.METRICS}
            )
        except FedminetError as failure:
            run.event("test-refused", site=received.site, code=refusal_code(failure), reason=failure.what)
            continue
        run.event("test-received", site=received.site)
    untested = [site for site in federation.sites if site not in tested]
    if untested:
        shortfalls.append(f"test without {', '.join(untested)}")
    run.record_tests(tested)
    if not tested:
        raise RunFailed("no site tested the global model", expected="at least one test reply")


def _record(run: RunDirectory, result: _Round, *, seconds: float, aggregated: bool) -> None:
    run.metrics(
        {
            "round": result.number,
            "seconds": seconds,
            "aggregated": aggregated,
            "sites": {site: result.sites[site] for site in sorted(result.sites)},
        }
    )


def _publish(run: RunDirectory, federation: FederationSettings, weights: Arrays) -> None:
    save_weights(run.global_model, federation, weights, round_number=federation.rounds)
    run.event("model-published", round=federation.rounds)


def _end(run: RunDirectory, *, status: Status, reason: str | None) -> None:
    run.advance(status=status, reason=reason)
    run.event("run-ended", status=status, reason=reason)
    summarise_run(run)
