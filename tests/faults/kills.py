"""SIGKILL of every process of a federation at every phase of a round, on the real deployment engine.

One coordinator and three sites are started by the commands that people use. In round k of a run the server
application is held at phase k, the process is killed, and the application is let go: nobody does anything else. While
sites train it is a site's task that is held, half way through its steps. Every round's checkpoint, and the final model,
must have the bytes of a run that nothing happened to.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.admission.declaration import declare
from client.site_home import SiteHome
from fedminet.single_machine.admission import admit_one_here, make_coordinator_here
from minet_core.errors import DeadlinePassed, HostError, ServerUnreachable
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.files.atomic_write import sha256_of_file
from minet_core.runtime.processes.child_processes import ChildProcesses, child_environment, free_port
from minet_core.settings.federation import FederationSettings
from server.flower.bundle import build_bundle, write_bundle
from server.runs.follow import run_to_end, server_status
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome, ServerSettings
from tests.faults import process_table
from tests.faults.holding import (
    CLIENT_APP,
    HOLD_VARIABLE,
    SERVER_APP,
    hold_file,
    reached_file,
    training_at,
)
from tests.faults.links import RelayLink
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.repository import ROOT

TRAINING = "while sites train"

PHASES = {
    "before sending": "asked",
    "while sending": "sent",
    TRAINING: "all sent",
    "while receiving": "received",
    "aggregated, before the checkpoint": "aggregated",
    "after the checkpoint": "saved",
}
"""The phase of a round in which a process is killed, and the moment at which the application is held for it."""

ROUNDS = len(PHASES) + 1
"""One round for each phase, and a calm one."""

LOCAL_STEPS = 150
"""Enough that a site trains for a second or two."""

VICTIM = "umr"

START_DEADLINE_S = 120.0
ROUND_DEADLINE_S = 120.0
CHILD_GRACE_S = 15.0

_POLL_S = 0.02


@dataclass(frozen=True)
class Kill:
    """One process killed in one phase.

    killed: what the process was. recovered_s: until its round was completed, the process was there again, and every
    site was online. same: the round's checkpoint has the bytes of the run that nothing happened to.
    """

    target: str
    phase: str
    killed: str
    recovered_s: float
    same: bool


@dataclass(frozen=True)
class KilledRun:
    """One run with a kill in each phase."""

    target: str
    kills: tuple[Kill, ...]
    status: str
    same_model: bool
    seconds: float


@dataclass(frozen=True)
class Bench:
    """A running deployment that can be held and hurt."""

    server: ServerHome
    sites: Mapping[str, SiteHome]
    hold: Path
    victim: str
    children: ChildProcesses
    link: RelayLink

    def start(self, name: str) -> None:
        """Start the coordinator ("server") or a site by the command that people use; again, after it has ended."""
        home = self.server if name == "server" else self.sites[name]
        self.children.start(
            name,
            [sys.executable, "-m", "fedminet", name if name == "server" else "site", "start", str(home.path)],
            env=child_environment(
                **cpu_threading_environment(),
                OMP_NUM_THREADS="1",
                PYTHONPATH=str(ROOT),  # where the held ServerApp is found: the tests are not installed
                **{HOLD_VARIABLE: str(self.hold)},
            ),
            log_path=home.logs / "start.log",
            needed=False,
        )

    def kill_command(self, name: str) -> None:
        """SIGKILL the command of the coordinator or of a site; what it had started ends with it."""
        (command,) = [child for child in self.children if child.name == name]
        command.process.kill()
        command.process.wait()

    def targets(self) -> dict[str, Callable[[], tuple[int | None, str]]]:
        """By name, what finds the process now, and says what it is."""
        site = self.sites[self.victim]
        return {
            "SuperLink": lambda: (process_table.superlink_of(self.server), "SuperLink"),
            "ServerApp": lambda: (process_table.server_app_of(self.server), "ServerApp"),
            "SuperExec": lambda: (process_table.superexec_of(self.server), "SuperExec of the server"),
            "SuperNode": lambda: (process_table.supernode_of(site), f"SuperNode of {self.victim}"),
            "site SuperExec": lambda: (process_table.site_superexec_of(site), f"SuperExec of {self.victim}"),
            "ClientApp": lambda: self._task_or_host(site),
        }

    def _task_or_host(self, site: SiteHome) -> tuple[int | None, str]:
        """The task where one is at work; else the host that the next one is forked from."""
        task = process_table.task_of(site)
        if task is not None:
            return task, f"task of {self.victim}"
        return process_table.task_host_of(site), f"task host of {self.victim}, no task was at work"


@contextmanager
def deployment(
    folder: Path, sites: Mapping[str, SiteHome], federation: FederationSettings, *, victim: str
) -> Iterator[Bench]:
    """A coordinator and its sites, started as people start them; the application and the tasks can be held.

    The victim reaches the coordinator through a relay.
    """
    port = free_port()
    server, authority = make_coordinator_here(
        folder / "coordinator", federation, ServerSettings(hosts=(RelayLink.host,), port=port)
    )
    write_bundle(server.superlink, build_bundle(server_app=SERVER_APP, client_app=CLIENT_APP))
    hold = folder / "hold"
    hold.mkdir()
    with (
        contextlib.closing(RelayLink()) as link,
        ChildProcesses(grace_s=CHILD_GRACE_S) as children,
    ):
        for name, home in sites.items():
            declare(home)
            over = link.address(port) if name == victim else None
            admit_one_here(server, authority, name, home, address=over)
        bench = Bench(server, sites, hold, victim, children, link)
        bench.start("server")
        children.wait_until(
            lambda: bool(server_status(server)["healthy"]),
            deadline_s=START_DEADLINE_S,
            what="the server answers",
        )
        for name in sites:
            bench.start(name)
        yield bench


def kills(folder: Path, *, repeats: int, say: Callable[[str], None]) -> list[KilledRun]:
    """The whole matrix over three tiny sites, in a new folder."""
    sites = make_tiny_sites(folder)
    federation = tiny_federation(
        rounds=ROUNDS,
        participation={"quorum": len(sites), "deadline_s": 300.0, "retries": 2},
        training={"local_steps": LOCAL_STEPS, "patch_px": 16, "batch_size": 2, "validation_slices": 1},
    )
    with deployment(folder, sites, federation, victim=VICTIM) as bench:
        return kill_matrix(
            bench, repeats=repeats, targets=list(bench.targets()), phases=list(PHASES), say=say
        )


def kills_as_text(runs: Sequence[KilledRun]) -> str:
    """By target and phase, how long it took until all was well again, the longest of the repeats; and the count."""
    phases = list(dict.fromkeys(kill.phase for run in runs for kill in run.kills))
    lines = ["seconds until the round was completed and everything back, longest of the repeats", ""]
    lines.append("| killed | " + " | ".join(phases) + " | same SHA-256 |")
    lines.append("|---" * (len(phases) + 2) + "|")
    for target in dict.fromkeys(run.target for run in runs):
        mine = [run for run in runs if run.target == target]
        longest = [
            max(k.recovered_s for run in mine for k in run.kills if k.phase == phase) for phase in phases
        ]
        same = sum(run.same_model for run in mine)
        lines.append(
            f"| {target} | " + " | ".join(f"{s:.1f}" for s in longest) + f" | {same} of {len(mine)} |"
        )
    every = [kill for run in runs for kill in run.kills]
    lines += [
        "",
        f"{len(every)} kills in {len(runs)} runs; {sum(run.status == 'completed' for run in runs)} runs completed, "
        f"{sum(run.same_model for run in runs)} with the model of the calm run; rounds with the same checkpoint: "
        f"{sum(kill.same for kill in every)}; longest recovery {max(kill.recovered_s for kill in every):.1f} s",
    ]
    return "\n".join(lines)


def kill_matrix(
    bench: Bench, *, repeats: int, targets: Sequence[str], phases: Sequence[str], say: Callable[[str], None]
) -> list[KilledRun]:
    """Each target killed in each phase, `repeats` times: one run for each target and repeat."""
    calm = RunDirectory(bench.server.runs / "calm")
    run_to_end(bench.server, "calm", progress=lambda *_: None)
    runs = []
    for repeat, target in itertools.product(range(repeats), targets):
        name = f"{target.lower().replace(' ', '-')}-{repeat + 1}"
        run = killed_run(bench, name, [(target, phase) for phase in phases], calm=calm)
        runs.append(run)
        for kill in run.kills:
            say(
                f"{kill.target:10s} {kill.phase:34s} {kill.recovered_s:6.1f} s  same {kill.same}  ({kill.killed})"
            )
        say(f"{target:10s} run {repeat + 1}: {run.status}, same model {run.same_model}, {run.seconds:.0f} s")
    return runs


def killed_run(bench: Bench, name: str, plan: Sequence[tuple[str, str]], *, calm: RunDirectory) -> KilledRun:
    """One run in which, a round each, a target is killed in a phase: what `plan` has."""
    from concurrent.futures import ThreadPoolExecutor

    began = time.monotonic()
    for left in bench.hold.iterdir():
        left.unlink()
    for number, (_, phase) in enumerate(plan, start=1):
        hold_file(bench.hold, number, PHASES[phase]).touch()
        if phase == TRAINING:
            hold_file(bench.hold, number, training_at(bench.victim)).touch()
    run = RunDirectory(bench.server.runs / name)
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(run_to_end, bench.server, name, progress=lambda *_: None)
        times = [
            _killed_at(bench, target, number=number, phase=phase, run=run)
            for number, (target, phase) in enumerate(plan, start=1)
        ]
        followed.result()
    kills = tuple(
        Kill(target, phase, killed, seconds, _same(run.checkpoint(number), calm.checkpoint(number)))
        for number, ((target, phase), (killed, seconds)) in enumerate(zip(plan, times, strict=True), start=1)
    )
    return KilledRun(
        target=", ".join(dict.fromkeys(target for target, _ in plan)),
        kills=kills,
        status=run.state.status,
        same_model=_same(run.global_model, calm.global_model),
        seconds=time.monotonic() - began,
    )


def _killed_at(bench: Bench, target: str, *, number: int, phase: str, run: RunDirectory) -> tuple[str, float]:
    """Kill once the round is in its phase; what was killed, and how long the round took from there."""
    moment = PHASES[phase]
    _wait(lambda: reached_file(bench.hold, number, moment).exists(), what=f"round {number} is {phase}")
    if phase == TRAINING:
        # The application is let go first: it must be waiting for replies, and the site at work.
        hold_file(bench.hold, number, moment).unlink()
        moment = training_at(bench.victim)
        _wait(lambda: reached_file(bench.hold, number, moment).exists(), what="the site is at work")
    pid, killed = bench.targets()[target]()
    if pid is None:
        raise HostError(f"there is no {target} to kill", got=phase)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    hold_file(bench.hold, number, moment).unlink(missing_ok=True)
    _wait(lambda: run.state.round >= number, what=f"round {number} is completed")
    _wait(lambda: _is_back(bench, target, but_not=pid), what=f"{target} is back and every site online")
    return killed, time.monotonic() - began


def _is_back(bench: Bench, target: str, *, but_not: int) -> bool:
    """Whether what was killed is there again; a task comes with the next message, so its host counts for it."""
    site = bench.sites[bench.victim]
    pid = process_table.task_host_of(site) if target == "ClientApp" else bench.targets()[target]()[0]
    if pid in (None, but_not):
        return False
    with contextlib.suppress(ServerUnreachable):
        return set(server_status(bench.server)["sites"].values()) == {"online"}
    return False


def _wait(reached: Callable[[], bool], *, what: str) -> None:
    ends = time.monotonic() + ROUND_DEADLINE_S
    while not reached():
        if time.monotonic() > ends:
            raise DeadlinePassed(f"waited in vain until {what}", got=f"{ROUND_DEADLINE_S:g} s")
        time.sleep(_POLL_S)


def _same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and sha256_of_file(path) == sha256_of_file(other)
