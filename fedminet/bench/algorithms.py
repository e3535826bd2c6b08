"""The federated algorithms side by side, beside each site alone and the pooled data, on phantoms of several seeds.

OUT/phantoms/seed-1-patients-10/sites/SITE    made once a seed, read by every method and changed by none
OUT/runs/METHOD-SEED/                         a federation's coordinator and its own copies of the sites' folders
OUT/cells/METHOD-SEED.json                    one method on one seed, done; what is there is not done again
OUT/table.md                                  what the cells say

A seed gives the phantoms, the initial weights and every draw, so the methods of one seed are paired. A federation
runs through the real apps on the in-process grid; a personal head is tested as each site's own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from client.site_home import SiteHome
from fedminet.centralised.folder import TrainingFolder
from fedminet.centralised.job import train_job, training_job
from fedminet.simulation.simulate import federate
from fedminet.single_machine.federation import Schedule
from fedminet.single_machine.sites import DEFAULT_SITES, make_sites_once
from minet_core.errors import ConfigurationError
from minet_core.report.summary import Scores
from minet_core.runtime.files.atomic_write import write_json, write_text
from minet_core.runtime.progress import progress
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.settings.federation import FederationSettings
from minet_core.settings.presets import federation_of
from minet_core.settings.yaml_file import Settings
from sites.scores import by_method, scores_on_test_split
from sites.store.store import Store

USUAL = Schedule(30, 10)
"""Where nothing else is asked for: short rounds, as in the simulation, and half as many of them."""

PILOT_SEED = 100

FEDERATED: dict[str, AlgorithmSettings] = {
    "fedavg": AlgorithmSettings(name="fedavg"),
    "fedprox": AlgorithmSettings(name="fedprox", proximal_mu=0.001),
    "scaffold": AlgorithmSettings(name="scaffold", server_learning_rate=1.0),
    "fedadam": AlgorithmSettings(name="fedadam", server_learning_rate=0.01, tau=1e-3),
    "personal-head": AlgorithmSettings(name="personal-head"),
}
"""The settings of each algorithm, chosen in short runs on `PILOT_SEED` alone, which no reported figure rests on."""

ALONE = ("local", "pooled")
METHODS = (*ALONE, *FEDERATED)
REFERENCE = "fedavg"
"""The method that the others are subtracted from, seed by seed."""


class Cell(Settings):
    """One method on one seed.

    federation: digest of the settings that were trained with. n_pairs: of scans in each site's store; fewer than
    n_patients where the ingest refused some. scores, sinc: of each site's test split, by site.
    bytes_up: of one site in one round, the mean over rounds; empty where nothing travels. seconds: wall time of
    training and testing all sites, one after another in one process.
    """

    method: str
    seed: int
    federation: str
    n_patients: int
    n_pairs: dict[str, int]
    scores: dict[str, Scores]
    sinc: dict[str, Scores]
    bytes_up: dict[str, float]
    seconds: float


def bench_algorithms(
    out: Path,
    *,
    seeds: Sequence[int],
    rounds: int,
    local_steps: int,
    n_patients: int = 10,
    quiet: bool = False,
) -> list[Cell]:
    """Compare every method of `METHODS` on the phantom federation, with the `quick` preset at 2x."""
    federation = federation_of(
        name="comparison",
        sites=DEFAULT_SITES,
        preset="quick",
        scale=2,
        rounds=rounds,
        local_steps=local_steps,
        seed=0,
    )
    return compare(out.resolve(), federation, seeds=seeds, n_patients=n_patients, quiet=quiet)


def compare(
    out: Path,
    federation: FederationSettings,
    *,
    seeds: Sequence[int],
    n_patients: int,
    methods: Sequence[str] = METHODS,
    quiet: bool = False,
) -> list[Cell]:
    """The cells of every method and seed, seed by seed, and OUT/table.md; cells that are in `out` are read.

    federation: what is common; the seed and the algorithm are set for each cell. Raises ConfigurationError (FM-C100)
    where a cell of `out` was made with other settings; where a federation did not complete every round with every
    site, what ended it, or RunFailed (FM-F403).
    """
    cells: list[Cell] = []
    wanted = {
        (method, seed): federation_for(method, federation, seed=seed) for seed in seeds for method in methods
    }
    for (method, seed), settings in wanted.items():  # all are held to the settings before the first is made
        _read_cell(out, method, seed, settings, n_patients=n_patients)
    for (method, seed), settings in wanted.items():
        cell = _read_cell(out, method, seed, settings, n_patients=n_patients)
        if cell is None:
            homes = _phantom_homes(out, settings, n_patients=n_patients)
            with progress(f"{method}, seed {seed}", quiet=quiet) as advance:
                cell = _made_cell(out, method, settings, homes, n_patients=n_patients, advance=advance)
            write_json(cell_path(out, method, seed), cell.model_dump(mode="json"))
        cells.append(cell)
    write_text(out / "table.md", table_text(cells, federation))
    return cells


def federation_for(method: str, federation: FederationSettings, *, seed: int) -> FederationSettings:
    """`federation` with this seed and with the method's algorithm; a method without one keeps FedAvg's name."""
    algorithm = FEDERATED.get(method, FEDERATED[REFERENCE])
    return federation.model_copy(update={"seed": seed, "algorithm": algorithm})


def cell_path(out: Path, method: str, seed: int) -> Path:
    """Where a cell is kept."""
    return out / "cells" / f"{method}-{seed}.json"


def table_text(cells: Sequence[Cell], federation: FederationSettings) -> str:
    """The comparison in Markdown: a table a site, the costs, and what was compared."""
    seeds = sorted({cell.seed for cell in cells})
    methods = list(dict.fromkeys(cell.method for cell in cells))
    by_seed = {method: {cell.seed: cell for cell in cells if cell.method == method} for method in methods}
    lines: list[str] = []
    for site in federation.sites:
        lines += [f"### {site}", "", f"| method | PSNR [dB] | SSIM | PSNR over {REFERENCE} [dB] |"]
        lines += ["|---|---|---|---|"]
        first = by_seed[methods[0]]
        lines.append(_row("sinc", {seed: cell.sinc[site] for seed, cell in first.items()}, {}))
        reference = {seed: cell.scores[site] for seed, cell in by_seed.get(REFERENCE, {}).items()}
        for method in methods:
            scores = {seed: cell.scores[site] for seed, cell in by_seed[method].items()}
            lines.append(_row(method, scores, {} if method == REFERENCE else reference))
        lines.append("")
    lines += ["### Costs", "", "| method | up, kB a round and site | seconds a seed |", "|---|---|---|"]
    for method in methods:
        sent = [n_bytes / 1e3 for cell in by_seed[method].values() for n_bytes in cell.bytes_up.values()]
        up = f"{statistics.mean(sent):.1f}" if sent else "none"
        seconds = _mean_and_range((cell.seconds for cell in by_seed[method].values()), digits=0)
        lines.append(f"| {method} | {up} | {seconds} |")
    return "\n".join([*lines, "", *_notes(methods, seeds, federation), *_refused_pairs(cells)]) + "\n"


def _notes(methods: Sequence[str], seeds: Sequence[int], federation: FederationSettings) -> list[str]:
    chosen = [f"{method} ({_in_words(FEDERATED[method])})" for method in methods if method in FEDERATED]
    n_steps = federation.training.local_steps
    return [
        f"Mean over the seeds {', '.join(map(str, seeds))} and, in brackets, the least and the most of them: a spread, "
        f"not an interval of confidence. Over {REFERENCE}: the differences within each seed. {federation.rounds} "
        f"rounds of {n_steps} steps of Adam; local and pooled take as many steps as one site does. Seconds: all sites "
        "one after another, tests included.",
        "",
        f"Settings: {'; '.join(chosen) or 'none'}. They were piloted on seed {PILOT_SEED} only.",
    ]


def _refused_pairs(cells: Sequence[Cell]) -> list[str]:
    """A line for each site that trained on fewer pairs than were made for it."""
    lines = [
        f"- {site} of seed {cell.seed} has {n_pairs} of {cell.n_patients} pairs: its ingest refused the others."
        for cell in cells
        for site, n_pairs in cell.n_pairs.items()
        if n_pairs < cell.n_patients
    ]
    return ["", *dict.fromkeys(lines)] if lines else []


def _in_words(algorithm: AlgorithmSettings) -> str:
    step = f"server step {algorithm.server_learning_rate}"
    words = {
        "fedavg": "nothing to set",
        "fedprox": f"mu {algorithm.proximal_mu}",
        "scaffold": step,
        "fedadam": f"{step}, beta {algorithm.beta1} and {algorithm.beta2}, tau {algorithm.tau}",
        "personal-head": f"each site's own {', '.join(algorithm.personal)}",
    }
    return words[algorithm.name]


def _row(label: str, scores: Mapping[int, Scores], reference: Mapping[int, Scores]) -> str:
    psnr = _mean_and_range((score.psnr_db for score in scores.values()), digits=2)
    ssim = _mean_and_range((score.ssim for score in scores.values()), digits=4)
    paired = [scores[seed].psnr_db - reference[seed].psnr_db for seed in scores if seed in reference]
    over = _mean_and_range(paired, digits=2, sign="+") if paired else ""
    return f"| {label} | {psnr} | {ssim} | {over} |"


def _mean_and_range(values: Iterable[float], *, digits: int, sign: str = "") -> str:
    """ "36.21 (36.02 to 36.40)"; the brackets are left out for one value."""
    numbers = list(values)
    mean, least, most = (
        f"{number:{sign}.{digits}f}" for number in (statistics.mean(numbers), min(numbers), max(numbers))
    )
    return f"{mean} ({least} to {most})" if len(numbers) > 1 else mean


def _read_cell(
    out: Path, method: str, seed: int, federation: FederationSettings, *, n_patients: int
) -> Cell | None:
    path = cell_path(out, method, seed)
    if not path.exists():
        return None
    cell = Cell.model_validate_json(path.read_text(encoding="utf-8"))
    if (cell.federation, cell.n_patients) != (federation.digest(), n_patients):
        raise ConfigurationError(
            "a result of a comparison with other settings is here",
            got=path,
            action="Name a new folder with --out, or ask for the settings of this one",
        )
    return cell


def _phantom_homes(out: Path, federation: FederationSettings, *, n_patients: int) -> dict[str, SiteHome]:
    """The sites of a seed, made where they are not there yet; whole or not at all."""
    folder = out / "phantoms" / f"seed-{federation.seed}-patients-{n_patients}"
    make_sites_once(folder, {}, sites=federation.sites, n_patients=n_patients, seed=federation.seed)
    return {site: SiteHome.at(folder / "sites" / site) for site in federation.sites}


def _made_cell(
    out: Path,
    method: str,
    federation: FederationSettings,
    homes: Mapping[str, SiteHome],
    *,
    n_patients: int,
    advance: Callable[[int, int], None],
) -> Cell:
    began = time.monotonic()
    bytes_up: dict[str, float] = {}
    if method in FEDERATED:
        tested, bytes_up = _federated(
            out / "runs" / f"{method}-{federation.seed}", federation, homes, advance
        )
    else:
        folder = out / "runs" / f"{method}-{federation.seed}"
        tested = _alone(folder, method, federation, homes, advance)
    scores = {site: by_method(figures) for site, figures in tested.items()}
    return Cell(
        method=method,
        seed=federation.seed,
        federation=federation.digest(),
        n_patients=n_patients,
        n_pairs={site: len(Store(home.store).cohort.pairs) for site, home in homes.items()},
        scores={site: Scores.model_validate(methods["global"]) for site, methods in scores.items()},
        sinc={site: Scores.model_validate(methods["sinc"]) for site, methods in scores.items()},
        bytes_up=bytes_up,
        seconds=time.monotonic() - began,
    )


def _federated(
    folder: Path,
    federation: FederationSettings,
    phantoms: Mapping[str, SiteHome],
    advance: Callable[[int, int], None],
) -> tuple[Mapping[str, Mapping[str, float]], dict[str, float]]:
    """By site, the figures of its test and the bytes it sent in a round."""
    run = federate(folder, federation, phantoms, advance)
    recorded = run.rounds_recorded()
    return run.tests_recorded(), {
        site: statistics.mean(record["sites"][site]["bytes_up"] for record in recorded) for site in phantoms
    }


def _alone(
    folder: Path,
    method: str,
    federation: FederationSettings,
    homes: Mapping[str, SiteHome],
    advance: Callable[[int, int], None],
) -> dict[str, dict[str, float]]:
    """By site, the figures of its test after training on its own data, or on the data of all."""
    together = {method: dict(homes)} if method == "pooled" else {s: {s: h} for s, h in homes.items()}
    tested: dict[str, dict[str, float]] = {}
    for label, members in together.items():
        job = training_job(members, federation, TrainingFolder(folder / label))
        model = train_job(job, progress=advance)
        for home in members.values():
            tested[home.path.name] = scores_on_test_split(
                model, Store(home.store), scale=federation.scale, seed=federation.seed
            )
    return tested
