"""What one hostile site costs the global model, and what each rule of aggregation costs honest ones.

Three sites of tiny made-up scans, the real apps and real training on the in-process grid. The odd site trains
honestly and then alters its reply, from round 1 to the last. A cost is the fall of the honest sites' test PSNR, in
dB, against the run in which all three are honest.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from client.app import build_client_app
from client.site_home import SiteHome
from fedminet.simulation.in_process_grid import InProcessGrid, server_identity
from minet_core.algorithms.influence import RULES, Rule
from minet_core.errors import FedminetError
from minet_core.runtime.files.atomic_write import write_text
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import settings_text
from server.runs.run_directory import RunDirectory
from tests.faults.hostile import figure, turned_after, update_times, with_weights
from tests.faults.tiny_sites import TINY_SITES, make_tiny_sites, tiny_federation
from tests.faults.trial_sites import Reshape, Weights, weights_in

ODD = "umr"

OPEN = {
    "refuse_norm": False,
    "refuse_opposed": False,
    "roll_back": False,
}
"""Quarantine as it was: what is suspect is told and used."""

NAMING = ("update-suspect", "reply-refused", "round-rolled-back", "validation-fell", "share-bounded")


@dataclass(frozen=True)
class Outcome:
    """One run. cost_db: of the honest sites' test PSNR, at the site that lost most. named: the odd site, in events."""

    name: str
    status: str
    cost_db: float
    named: int
    honest_named: int
    refused: int
    rolled_back: int


def _altered(change: Callable[[str, Weights, Weights], Weights]) -> Reshape:
    """change: from a name of the strategy's seed, the weights before and after honest training, those that are sent."""

    def reshape(content: RecordDict, request: Message) -> RecordDict:
        before, after = weights_in(request), weights_in(content)
        number = str(request.content.config_records["request"]["round"])
        memory = {name: after[name] for name in after if name not in before}
        return with_weights(content, {**change(number, before, after), **memory})

    return reshape


def _length(before: Weights, after: Weights) -> float:
    return float(np.sqrt(sum(np.sum(np.square(_moved(before, after, name))) for name in before)))


def _moved(before: Weights, after: Weights, name: str) -> NDArray[np.float64]:
    return np.asarray(after[name], np.float64) - np.asarray(before[name], np.float64)


def _directed(make: Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]) -> Reshape:
    """An update of the honest length in a direction of the attacker's."""

    def change(number: str, before: Weights, after: Weights) -> Weights:
        generator = np.random.default_rng(int(number))
        drawn = {name: make(generator, before[name].shape) for name in sorted(before)}
        length = float(np.sqrt(sum(np.sum(np.square(array)) for array in drawn.values())))
        factor = _length(before, after) / length
        return {
            name: (np.asarray(before[name], np.float64) + factor * drawn[name]).astype(before[name].dtype)
            for name in before
        }

    return _altered(change)


def _half_flipped(number: str, before: Weights, after: Weights) -> Weights:
    del number
    names = sorted(before)
    return {
        name: (
            np.asarray(before[name], np.float64) + (-1 if index % 2 else 1) * _moved(before, after, name)
        ).astype(before[name].dtype)
        for index, name in enumerate(names)
    }


STRATEGIES: dict[str, Callable[[], Reshape]] = {
    "reversed at its own norm": lambda: update_times(-1.0),
    "reversed, doubled": lambda: update_times(-2.0),
    "doubled": lambda: update_times(2.0),
    "9.9 times as large": lambda: update_times(9.9),
    "reversed, 9.9 times": lambda: update_times(-9.9),
    "half of the tensors reversed": lambda: _altered(_half_flipped),
    "noise at the honest norm": lambda: _directed(lambda generator, shape: generator.normal(size=shape)),
    "constant drift at the honest norm": lambda: _directed(lambda _, shape: np.ones(shape)),
    "a million slices": lambda: figure("n_training_slices", 1_000_000),
}

TURNING: dict[str, Callable[[], Reshape]] = {
    "reversed after three rounds": lambda: turned_after(3, -1.0),
    "reversed by little and little": lambda: turned_after(2, -1.0, within=6),
}
"""Of sites that agree at first: told of as soon as any other, and refused later."""


def bench_federation(seed: int, *, rounds: int, **changes: object) -> FederationSettings:
    """Tiny sites that learn enough in a few seconds to lose something."""
    return tiny_federation(
        seed=seed,
        rounds=rounds,
        participation={"quorum": 2, "deadline_s": 600.0, "retries": 0},
        training={
            "local_steps": 6,
            "patch_px": 16,
            "batch_size": 4,
            "validation_slices": 2,
            "learning_rate": 5e-3,
            "warmup_steps": 5,
        },
        **changes,
    )


def conducted(
    folder: Path, made: Path, federation: FederationSettings, reshape: Reshape | None
) -> RunDirectory:
    """One run over copies of the sites in `made`; the odd one alters its replies."""
    shutil.copytree(made / "sites", folder / "sites")
    for site in TINY_SITES:
        write_text(folder / "sites" / site / "kit" / "federation.yaml", settings_text(federation))
    run = RunDirectory.create(folder / "run", federation, engine="in-process")
    apps = {site: _app(SiteHome(folder / "sites" / site).path) for site in TINY_SITES}
    if reshape is not None:
        apps[ODD] = _hostile(apps[ODD], reshape)
    from server.rounds.run import run_federation

    with server_identity():
        run_federation(InProcessGrid(apps), run)
    return run


def _app(path: Path) -> ClientApp:
    return build_client_app(lambda _context: path)


def _hostile(honest: ClientApp, reshape: Reshape) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = honest(message=message, context=context)
        return Message(reshape(reply.content, message), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(honest(message=message, context=context).content, reply_to=message)

    return app


def outcome(name: str, run: RunDirectory, honest: RunDirectory) -> Outcome:
    """What became of a run, against the honest one."""
    now, then = run.tests_recorded(), honest.tests_recorded()
    costs = [
        then[site]["global_psnr_db"] - now[site]["global_psnr_db"]
        for site in TINY_SITES
        if site != ODD and site in now
    ]
    events = [event for event in run.events_recorded() if event["event"] in NAMING]
    return Outcome(
        name=name,
        status=run.state.status,
        cost_db=max(costs) if costs else float("nan"),
        named=sum(event["site"] == ODD for event in events),
        honest_named=sum(event["site"] != ODD for event in events),
        refused=sum(event["site"] == ODD and event["event"] == "reply-refused" for event in events),
        rolled_back=sum(event["event"] == "round-rolled-back" for event in events),
    )


def robustness(
    seed: int,
    *,
    rounds: int,
    names: Iterable[str] = (*STRATEGIES, *TURNING),
    rules: Iterable[Rule] = RULES[1:],
    write: Callable[[str], None],
) -> list[Outcome]:
    """Every strategy with the shipped defaults and without them, and every rule among honest sites."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="robustness-") as place:
        folder = Path(place)
        make_tiny_sites(folder / "made")

        def one(
            name: str, reshape: Reshape | None, honest: RunDirectory | None, **changes: object
        ) -> RunDirectory:
            federation = bench_federation(seed, rounds=rounds, **changes)
            own = folder / str(len(outcomes))
            try:
                run = conducted(own, folder / "made", federation, reshape)
            except FedminetError as failure:
                write(f"| {name} | ended: {failure.code} | | | | | |")
                run = RunDirectory(own / "run")
            outcomes.append(outcome(name, run, honest or run))
            write(row(outcomes[-1]))
            return run

        honest = one("honest", None, None)
        made_of = {**STRATEGIES, **TURNING}
        for name in names:
            one(f"{name}: as shipped", made_of[name](), honest)
            one(
                f"{name}: quarantine open",
                made_of[name](),
                honest,
                quarantine=OPEN,
                algorithm={"max_share": 1.0},
            )
        for rule in rules:
            one(f"honest, {rule}", None, honest, algorithm={"rule": rule})
    return outcomes


HEADER = """| run | status | cost, dB | events on the odd site | on honest sites | refused | taken back |
| --- | --- | --- | --- | --- | --- | --- |"""


def row(found: Outcome) -> str:
    """A line of the table."""
    return (
        f"| {found.name} | {found.status} | {found.cost_db:.2f} | {found.named} | {found.honest_named} | "
        f"{found.refused} | {found.rolled_back} |"
    )
