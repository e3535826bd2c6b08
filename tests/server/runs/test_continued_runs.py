"""A run that is ended anywhere, any number of times, goes on and comes to the same bytes.

hypothesis drives the real conduct of a run over in-process sites: at moments of its choice the server application
ends (as if killed: nothing is written after that moment), a site answers late, twice, or with the last round's reply.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedminet.simulation.in_process_grid import InProcessGrid, server_identity
from minet_core.runtime.files.atomic_write import sha256_of_file
from server.rounds import run as federated_run
from server.rounds.run import run_federation
from server.runs import run_directory
from server.runs.run_directory import RunDirectory
from tests.faults.trial_sites import honest_reply, honest_test_reply, trial_federation
from tests.support.killed import Killed

SITES = {"sms": (0.25, 100), "umr": (0.5, 50), "fastmri": (0.125, 70)}
ROUNDS = 3
CONTRACT = {"quorum": 3, "deadline_s": 30.0, "retries": 2}
FEDERATIONS = {
    name: trial_federation(rounds=ROUNDS, participation=CONTRACT, algorithm={"name": name})
    for name in ("fedavg", "scaffold")
}
"""SCAFFOLD carries more than weights from round to round."""


class Site:
    """A site that answers as one with a kept round does: the same request, the same answer."""

    def __init__(self, shift: float, n_slices: int) -> None:
        self.app = ClientApp()
        self.kept: dict[int, RecordDict] = {}
        self.misbehaves: str | None = None

        @self.app.train()
        def train(message: Message, context: Context) -> Message:
            number = int(message.content.config_records["request"]["round"])  # type: ignore[arg-type]
            misbehaves, self.misbehaves = self.misbehaves, None
            if misbehaves == "replays" and number - 1 in self.kept:
                return Message(self.kept[number - 1], reply_to=message)
            if number not in self.kept:
                self.kept[number] = honest_reply(message, shift=shift * number, n_training_slices=n_slices)
            return Message(self.kept[number], reply_to=message)

        @self.app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            return Message(honest_test_reply(message, n_training_slices=n_slices), reply_to=message)


class UnrulyGrid(InProcessGrid):
    """Gives a reply twice, or late, when it is told to."""

    twice = 0
    late = 0

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        if self.late > 0:
            self.late -= 1
            return []
        replies = list(super().pull_messages(message_ids))
        if replies and self.twice > 0:
            self.twice -= 1
            return [*replies, *replies]
        return replies


def uninterrupted(folder: Path, algorithm: str) -> str:
    run = RunDirectory.create(folder / "run", FEDERATIONS[algorithm], engine="in-process")
    sites = {name: Site(*facts) for name, facts in SITES.items()}
    with server_identity():
        run_federation(InProcessGrid({name: site.app for name, site in sites.items()}), run)
    assert run.state.status == "completed"
    return sha256_of_file(run.global_model)


MOMENTS = ("asked", "sent", "all sent", "received", "aggregated", "saved")


class ContinuedRun(RuleBasedStateMachine):
    """One run over three sites, ended and continued until it is over."""

    truth: ClassVar[dict[str, str]] = {}

    @initialize(algorithm=st.sampled_from(sorted(FEDERATIONS)))
    def begin(self, algorithm: str) -> None:
        self.folder, self.algorithm = Path(tempfile.mkdtemp(prefix="continued-")), algorithm
        if algorithm not in self.truth:
            self.truth[algorithm] = uninterrupted(self.folder / "uninterrupted", algorithm)
        self.run = RunDirectory.create(self.folder / "run", FEDERATIONS[algorithm], engine="in-process")
        self.sites = {name: Site(*facts) for name, facts in SITES.items()}

    def grid(self) -> UnrulyGrid:
        return UnrulyGrid({name: site.app for name, site in self.sites.items()})

    @precondition(lambda self: not self.run.ended)
    @rule(
        moment=st.sampled_from(MOMENTS),
        count=st.integers(1, 4),
        late=st.integers(0, 2),
        twice=st.integers(0, 1),
    )
    def conduct_until_killed(self, moment: str, count: int, late: int, twice: int) -> None:
        left = [count]

        def at(name: str) -> None:
            if name == moment:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed

        grid = self.grid()
        grid.late, grid.twice = late, twice
        self.conduct(grid, at)

    @precondition(lambda self: not self.run.ended)
    @rule(count=st.integers(1, 25), after=st.booleans())
    def killed_beside_a_write(self, count: int, after: bool) -> None:
        """Just before a file takes its place, whichever it is, or just after."""
        left, replace_file = [count], Path.replace

        def dying(path: Path, target: Path) -> Path:
            left[0] -= 1
            if left[0] == 0 and not after:
                raise Killed
            replaced = replace_file(path, target)
            if left[0] == 0:
                raise Killed
            return replaced

        with mock.patch.object(Path, "replace", dying):
            self.conduct(self.grid(), lambda _: None)

    @precondition(lambda self: not self.run.ended)
    @rule(count=st.integers(1, 12), after=st.booleans())
    def killed_beside_a_line(self, count: int, after: bool) -> None:
        """Just before a line of events or metrics is appended, or just after."""
        left, append = [count], run_directory.append_line

        def dying(path: Path, record: dict[str, Any]) -> None:
            left[0] -= 1
            if left[0] == 0 and not after:
                raise Killed
            append(path, record)
            if left[0] == 0:
                raise Killed

        with mock.patch.object(run_directory, "append_line", dying):
            self.conduct(self.grid(), lambda _: None)

    @precondition(lambda self: not self.run.ended)
    @rule(site=st.sampled_from(sorted(SITES)))
    def a_site_will_send_its_last_reply_again(self, site: str) -> None:
        if self.run.state.attempt < CONTRACT["retries"]:
            self.sites[site].misbehaves = "replays"

    @precondition(lambda self: self.run.ended)
    @rule()
    def a_run_that_ended_is_not_taken_up_again(self) -> None:
        before = {path: path.read_bytes() for path in self.run.path.iterdir() if path.is_file()}
        self.conduct(self.grid(), lambda _: None)
        assert {path: path.read_bytes() for path in self.run.path.iterdir() if path.is_file()} == before

    def conduct(self, grid: UnrulyGrid, at) -> None:  # type: ignore[no-untyped-def]
        """Go on until the run ends or is killed; a kill writes nothing more, so `_interrupt` is left out."""
        interrupt, federated_run._interrupt = federated_run._interrupt, lambda *_: None
        summarise, federated_run.summarise_run = federated_run.summarise_run, lambda _: None  # type: ignore[assignment]
        try:
            with server_identity():
                run_federation(grid, self.run, observer=at)
        except Killed:
            pass
        finally:
            federated_run._interrupt, federated_run.summarise_run = interrupt, summarise

    @invariant()
    def a_run_that_ended_has_the_bytes_of_one_that_was_never_interrupted(self) -> None:
        if not hasattr(self, "run") or not self.run.ended:
            return
        assert self.run.state.status == "completed", self.run.state
        assert sha256_of_file(self.run.global_model) == self.truth[self.algorithm]
        assert set(self.run.declared()) == set(SITES)
        assert [record["round"] for record in self.run.rounds_recorded()] == list(range(1, ROUNDS + 1))

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        if not self.run.ended:
            for site in self.sites.values():
                site.misbehaves = None
            self.conduct(self.grid(), lambda _: None)
            self.a_run_that_ended_has_the_bytes_of_one_that_was_never_interrupted()
        shutil.rmtree(self.folder)


ContinuedRun.TestCase.settings = settings(
    max_examples=15, stateful_step_count=6, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_a_continued_run_comes_to_the_same_bytes = pytest.mark.timeout(300)(ContinuedRun.TestCase)
