"""What a server application needs to conduct a run, and what it keeps and sends of the run's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import RecordDict

from minet_core.algorithms.interface import ServerState
from minet_core.checkpoint import read_manifest, save_weights
from minet_core.protocol import messages
from minet_core.protocol.exchange_plan import ExchangePlan
from minet_core.runtime.memory import give_back_memory
from minet_core.runtime.observer import Observer
from minet_core.settings.federation import FederationSettings
from minet_core.training_domain import TrainingDomain, domain_of_figures, merged
from minet_core.weights.lazy_arrays import StoredArrays
from minet_core.weights.payload import save_parcel
from server.flower.nonblocking_grid import MessageGrid
from server.rounds.exchange import request
from server.rounds.figures_of_run import FiguresOfRun
from server.rounds.ledger_records import with_our_head
from server.rounds.replies import Expected, KeptReply, check_parcels, page_of, read_replies
from server.runs.run_directory import RunDirectory, file_digest


@dataclass(frozen=True)
class RoundContext:
    """What a server application needs to conduct a run."""

    grid: MessageGrid
    run: RunDirectory
    federation: FederationSettings
    agreement: ExchangePlan
    observer: Observer
    figures: FiguresOfRun = field(default_factory=FiguresOfRun)

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
            run_number=messages.run_number(self.run.path.name, federation=self.digest),
            declared=self.run.declared(),
            global_weights=self.global_state().weights,
            validated=self.federation.is_validated(round_number),
        )


def domain_after_round(conduct: RoundContext, kept: Mapping[str, KeptReply]) -> TrainingDomain | None:
    """What the global model was trained on, the round in work included, by the sites' own figures."""
    former = read_manifest(conduct.run.checkpoint(conduct.run.state.round)).domain
    return merged([former, *(domain_of_figures(kept[site].figures) for site in conduct.run.state.accepted)])


def digests_of_round(run: RunDirectory, round_number: int) -> dict[str, str]:
    """By path in the run's folder, the digests of what was saved of the state after a round."""
    paths = (run.checkpoint(round_number), run.memory(round_number))
    found = {path: file_digest(path) for path in paths}
    return {str(path.relative_to(run.path)): digest for path, digest in found.items() if digest is not None}


def digests_of_pages(run: RunDirectory, round_number: int, sites: Iterable[str]) -> dict[str, str]:
    """By path in the run's folder, the digests of the pages of these sites' replies."""
    paths = (page_of(run.replies(round_number), site) for site in sites)
    found = {path: file_digest(path) for path in paths}
    return {str(path.relative_to(run.path)): digest for path, digest in found.items() if digest is not None}


def save_state(
    conduct: RoundContext, state: ServerState, *, round_number: int, domain: TrainingDomain | None = None
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


def build_request(conduct: RoundContext) -> RecordDict:
    run, agreement = conduct.run, conduct.agreement
    give_back_memory(
        agreement.shared.n_bytes
    )  # what the step before left: a request is the most that a round holds
    arrays = agreement.request_arrays(conduct.global_state())
    number = min(conduct.number, conduct.federation.rounds)
    content = request(arrays, round_number=number, run=run.path.name, digest=conduct.digest)
    task = "train" if conduct.number <= conduct.federation.rounds else "test"
    return with_our_head(content, run, task=task)


def verify_run(run: RunDirectory) -> None:
    """Hold a run's folder against the digests in its state before anything of it is used.

    Replies of the round in work that are damaged count as damage too: their sites would answer the same again, and
    nobody would learn of the disk. Raises RunDamaged (FM-S517).
    """
    run.verify()
    state = run.state
    pages = [Path(name) for name in state.digests if name.endswith(".json")]
    for number in (state.round, state.round + 1):
        folder = run.replies(number)
        sites = {path.stem for path in pages if path.parent.name == folder.name}
        kept = read_replies(folder)
        sites |= {site for site, reply in kept.items() if reply.figures is not None and reply.refused is None}
        check_parcels(folder, sorted(sites), round_number=number)
