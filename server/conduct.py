"""What a server application needs to conduct a run, and what it keeps and sends of the run's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import RecordDict

from minet_core import wire
from minet_core.aggregation.values import ServerState
from minet_core.agreement import Agreement
from minet_core.checkpoint import describe, read_manifest, save_checkpoint
from minet_core.federation import FederationSettings
from minet_core.parcel import save_parcel
from minet_core.runtime.memory import give_back_memory
from minet_core.runtime.versions import versions
from minet_core.stored_arrays import StoredArrays
from minet_core.training_domain import TrainingDomain, domain_of_figures, merged
from minet_core.weights import Arrays
from server.coordinator_ledger import with_our_head
from server.exchange import Moment, request
from server.prompt_grid import MessageGrid
from server.replies import Expected, KeptReply
from server.run_directory import RunDirectory


@dataclass(frozen=True)
class Conduct:
    """What a server application needs to conduct a run."""

    grid: MessageGrid
    run: RunDirectory
    federation: FederationSettings
    agreement: Agreement
    at: Moment

    @property
    def digest(self) -> str:
        return self.federation.digest()

    @property
    def number(self) -> int:
        """The round in work."""
        return self.run.state.round + 1

    @property
    def folder(self) -> Path:
        return self.run.replies(self.number)

    def global_state(self) -> ServerState:
        """The last completed round's, read from the disk as it is asked for."""
        done = self.run.state.round
        memory = self.run.memory(done)
        return ServerState(
            weights=StoredArrays(self.run.checkpoint(done)),
            memory=StoredArrays(memory) if memory.exists() else {},
        )

    def expected(self, *, round_number: int) -> Expected:
        return Expected(
            agreement=self.agreement,
            round_number=round_number,
            run_number=wire.run_number(self.run.path.name, federation=self.digest),
            declared=self.run.declared(),
            global_weights=self.global_state().weights,
        )


def save_weights(
    path: Path,
    federation: FederationSettings,
    weights: Arrays,
    *,
    round_number: int,
    domain: TrainingDomain | None = None,
) -> None:
    """Write the global weights as a checkpoint of this federation. domain: what they were trained on."""
    manifest = describe(
        weights,
        model=federation.model,
        scale=federation.scale,
        round_number=round_number,
        provenance={
            "algorithm": federation.algorithm.name,
            "federation": federation.name,
            "federation_digest": federation.digest(),
            **versions(),
        },
        domain=domain,
    )
    save_checkpoint(path, weights, manifest)


def domain_after_round(conduct: Conduct, kept: Mapping[str, KeptReply]) -> TrainingDomain | None:
    """What the global model was trained on, the round in work included, by the sites' own figures."""
    former = read_manifest(conduct.run.checkpoint(conduct.run.state.round)).domain
    return merged([former, *(domain_of_figures(kept[site].figures) for site in conduct.run.state.accepted)])


def save_state(
    conduct: Conduct, state: ServerState, *, round_number: int, domain: TrainingDomain | None = None
) -> None:
    """The algorithm's memory first: a round with a checkpoint has all that the next one needs."""
    if state.memory:
        save_parcel(conduct.run.memory(round_number), state.memory)
    save_weights(
        conduct.run.checkpoint(round_number),
        conduct.federation,
        state.weights,
        round_number=round_number,
        domain=domain,
    )


def request_of(conduct: Conduct) -> RecordDict:
    run, agreement = conduct.run, conduct.agreement
    give_back_memory(
        agreement.shared.n_bytes
    )  # what the step before left: a request is the most that a round holds
    arrays = agreement.request_arrays(conduct.global_state())
    number = min(conduct.number, conduct.federation.rounds)
    content = request(arrays, round_number=number, run=run.path.name, digest=conduct.digest)
    task = "train" if conduct.number <= conduct.federation.rounds else "test"
    return with_our_head(content, run, task=task)
