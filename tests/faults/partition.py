"""A site whose network is cut in the middle of a run, and healed: on the real deployment engine.

The processes of one site live in a network namespace of their own, on a bridge to which the coordinator listens; the
cut takes its end of the wire off the bridge, so that nothing arrives and nobody is told. Where a machine gives no
namespaces, the site reaches the coordinator through a relay on loopback that stops forwarding. The coordinator and the
other two sites notice nothing but silence, and the run must go on without the site and take it back afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client.admission.declaration import declare
from client.processes.site_processes import SiteProcesses, site_processes
from client.site_home import SiteHome
from fedminet.single_machine.admission import admit_one_here, make_coordinator_here
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from server.admission.pki import Authority
from server.flower.superlink_control import Node, SuperLinkControl, wait_for_nodes
from server.processes.server_processes import ServerProcesses
from server.runs.follow import run_to_end
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome, ServerSettings
from tests.faults.links import Link, LinkKind, opened_link
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation

CUT_SITE = "umr"
RUN_NAME = "partition"
ROUNDS = 6
DEADLINE_S = 20.0
LOCAL_SECONDS = 4.0
CUT_AFTER_ROUND = 1
HEALED_AFTER_ROUNDS = 2
"""From the cut on, and once the SuperLink has taken the node for gone, after 20 s of silence: one round waits its
deadline out, and the next one does without the site sooner. Of the rounds that are left one has begun."""

START_DEADLINE_S = 120.0
CHILD_GRACE_S = 15.0


@dataclass(frozen=True)
class Partition:
    """What became of a run whose site `site` was cut off after its first round.

    cut_s: how long. offline_s: from the cut until the SuperLink took the node for gone; None if it never did. back_s:
    from the healing until it had the node online. missed: by round without the site, the code that says why.
    took_part: the rounds with it. registered_before, registered_after: its name, node number and key's fingerprint.
    """

    link: LinkKind
    site: str
    status: str
    status_reason: str | None
    cut_s: float
    offline_s: float | None
    back_s: float | None
    missed: dict[int, str]
    took_part: tuple[int, ...]
    round_seconds: tuple[float, ...]
    registered_before: Node
    registered_after: Node
    tested: tuple[str, ...]

    @property
    def same_node(self) -> bool:
        """Whether the SuperLink knows the site by the same name, node number and key."""
        return _identity(self.registered_before) == _identity(self.registered_after)

    @property
    def held(self) -> bool:
        """Whether the run went on without the site, named it, and took it back."""
        came_back = any(number > max(self.missed, default=0) for number in self.took_part)
        return self.status == "partial" and bool(self.missed) and came_back and self.same_node


def partition(out: Path, *, link: LinkKind | None = None) -> Partition:
    """Make three tiny sites under `out`, conduct a run over them, and cut one off meanwhile.

    link: None takes a namespace where the machine gives one. Ends every process that it started. Raises HostError
    (FM-S500) where `link` cannot be had, RunFailed (FM-F403), and what starting the processes raises.
    """
    federation = tiny_federation(
        rounds=ROUNDS,
        participation={"quorum": 2, "deadline_s": DEADLINE_S, "retries": 1},
        training={
            **{"local_steps": None, "local_seconds": LOCAL_SECONDS},
            **{"patch_px": 16, "batch_size": 2, "validation_slices": 1},
        },
    )
    homes = make_tiny_sites(out)
    with opened_link(link) as wire, ChildProcesses(grace_s=CHILD_GRACE_S) as children:
        settings = ServerSettings(hosts=(wire.host,), bind=wire.host, port=free_port(wire.host))
        server, authority = make_coordinator_here(out / "coordinator", federation, settings)
        _admit(server, authority, homes, wire)
        environment = {**cpu_threading_environment(), "OMP_NUM_THREADS": "1"}
        processes = ServerProcesses(server, children, environment)
        control = processes.start()
        sites = {
            name: site_processes(
                home,
                children,
                environment=environment,
                argv_prefix=wire.argv_prefix if name == CUT_SITE else (),
            )
            for name, home in homes.items()
        }
        _start(control, sites, children)
        watch = _Watch(control, wire, processes, sites, before=_node(control))
        summary = run_to_end(server, RUN_NAME, progress=watch.advance, watch=children)
        return watch.outcome(RunDirectory(server.runs / RUN_NAME), status=summary.status)


def partition_as_text(result: Partition) -> str:
    """The table of a result."""
    missed = ", ".join(f"{number} ({code})" for number, code in sorted(result.missed.items())) or "none"
    seconds = ", ".join(f"{seconds:.1f}" for seconds in result.round_seconds)
    before, after = _identity(result.registered_before), _identity(result.registered_after)
    offline = "never" if result.offline_s is None else f"{result.offline_s:.1f} s after the cut"
    back = "never" if result.back_s is None else f"{result.back_s:.1f} s after the healing"
    lines = [
        f"{result.site} cut off for {result.cut_s:.1f} s by a {result.link}, deadline {DEADLINE_S:g} s a round",
        f"taken for gone    {offline}",
        f"online again      {back}",
        f"rounds without    {missed}",
        f"rounds with       {', '.join(map(str, result.took_part))}",
        f"seconds a round   {seconds}",
        f"name, node, key   {'the same' if result.same_node else f'{before} became {after}'}",
        f"tested            {', '.join(result.tested)}",
        f"status            {result.status}: {result.status_reason}",
    ]
    return "\n".join(lines)


@dataclass
class _Watch:
    """Cuts and heals as the run goes on, keeps the processes going, and notes when things happened."""

    control: SuperLinkControl
    link: Link
    processes: ServerProcesses
    sites: dict[str, SiteProcesses]
    before: Node
    moments: dict[str, float] = field(default_factory=dict)
    done_at_cut: int = 0

    def advance(self, done: int, _rounds: int) -> None:
        """Called twice a second with the number of completed rounds."""
        self.processes.tend(answered=True)
        for site in self.sites.values():
            site.tend()
        now = time.monotonic()
        if done >= CUT_AFTER_ROUND and "cut" not in self.moments:
            self.link.cut()
            self.moments["cut"], self.done_at_cut = now, done
        elif "cut" in self.moments and "healed" not in self.moments:
            self._note("offline", status="offline")
            if "offline" in self.moments and done >= self.done_at_cut + HEALED_AFTER_ROUNDS:
                self.link.heal()
                self.moments["healed"] = now
        elif "healed" in self.moments:
            self._note("back", status="online")

    def outcome(self, run: RunDirectory, *, status: str) -> Partition:
        """What the run left, and what was noted meanwhile."""
        records = {record["round"]: record["sites"][CUT_SITE] for record in run.rounds_recorded()}
        return Partition(
            link=self.link.kind,
            site=CUT_SITE,
            status=status,
            status_reason=run.state.reason,
            cut_s=self._between("cut", "healed") or 0.0,
            offline_s=self._between("cut", "offline"),
            back_s=self._between("healed", "back"),
            missed={number: entry["refused"] for number, entry in records.items() if entry["refused"]},
            took_part=tuple(number for number, entry in records.items() if not entry["refused"]),
            round_seconds=tuple(record["seconds"] for record in run.rounds_recorded()),
            registered_before=self.before,
            registered_after=_node(self.control),
            tested=tuple(sorted(run.tests_recorded())),
        )

    def _note(self, moment: str, *, status: str) -> None:
        if moment not in self.moments and _node(self.control).status == status:
            self.moments[moment] = time.monotonic()

    def _between(self, first: str, last: str) -> float | None:
        return self.moments[last] - self.moments[first] if {first, last} <= self.moments.keys() else None


def _admit(server: ServerHome, authority: Authority, homes: Mapping[str, SiteHome], link: Link) -> None:
    """Give every site its kit; that of the site to be cut off leads over the link."""
    for name, home in homes.items():
        declare(home)
        over = link.address(server.settings().port) if name == CUT_SITE else None
        admit_one_here(server, authority, name, home, address=over)


def _start(control: SuperLinkControl, sites: Mapping[str, SiteProcesses], children: ChildProcesses) -> None:
    """Start the sites, and wait until all are online."""
    for site in sites.values():
        site.start()
    wait_for_nodes(
        control,
        tuple(sites),
        wait=lambda online: children.wait_until(
            online, deadline_s=START_DEADLINE_S, what="all are online", interval_s=0.5
        ),
    )


def _node(control: SuperLinkControl) -> Node:
    return next(node for node in control.nodes() if node.name == CUT_SITE)


def _identity(node: Node) -> tuple[str, int, str]:
    return node.name, node.node_id, node.key_fingerprint
