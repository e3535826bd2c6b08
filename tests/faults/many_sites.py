"""What a round costs the coordinator by the number of its sites, from 3 to 100, beside reading one reply.

As `tests.faults.coordinator`, with Flower's transport in it: the sites are simulated, and their part is not counted.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minet_core.protocol.exchange_plan import exchange_plan_of
from minet_core.settings.federation import FederationSettings, ModelSettings
from minet_core.weights.lazy_arrays import check_stored
from server.processes.server_processes import ALLOCATOR
from tests.faults.coordinator import Cost, conduct, federation_of_sites, write_parcel
from tests.faults.endurance import in_own_process
from tests.faults.simulated_sites import Clock

NUMBERS_OF_SITES = (3, 10, 30, 100)

MODELS = {
    "quick": ModelSettings(),
    "2.9 M": ModelSettings(n_groups=3, n_blocks=5, n_features=64),
}
"""By name: the quick preset's 0.07 M weights, and as many as a hundred replies of find room for on a small disk."""

READS = 20


@dataclass(frozen=True)
class ManySites:
    """One model. costs: by the number of sites. read, checked: of one reply's file, the median of processor seconds:
    its bytes read and digested once; and every tensor held to the manifest.
    """

    n_parameters: int
    costs: dict[int, Cost]
    read: float
    checked: float

    @property
    def line(self) -> tuple[float, float]:
        """Slope and intercept of the processor seconds of a round over the number of sites, by least squares."""
        seconds = [cost.processor_seconds for cost in self.costs.values()]
        slope, intercept = np.polyfit(list(self.costs), seconds, 1)
        return float(slope), float(intercept)


def many_sites(
    numbers: Sequence[int] = NUMBERS_OF_SITES, *, model: ModelSettings, rounds: int = 2
) -> ManySites:
    """Measure a run of each number of sites, each in a process of its own."""
    first = federation_of_sites(numbers[0], model=model, rounds=rounds)
    with tempfile.TemporaryDirectory(prefix="many-sites-") as folder:
        parcel = Path(folder) / "parcel.safetensors"
        in_own_process(write_parcel, parcel, first)
        costs = {
            number: in_own_process(
                *(
                    conduct,
                    Path(folder) / f"run-{number}",
                    federation_of_sites(number, model=model, rounds=rounds),
                ),
                *(parcel, True),
                environment=ALLOCATOR,
            )
            for number in numbers
        }
        read, checked = in_own_process(_read, parcel, first, environment=ALLOCATOR)
    return ManySites(exchange_plan_of(first).shared.n_values, costs, read, checked)


def _read(parcel: Path, federation: FederationSettings) -> tuple[float, float]:
    """What one reply's file takes to be read, and to be checked too; the median of `READS`."""
    manifest = exchange_plan_of(federation).shared
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(READS):
        began = Clock.now()
        hashlib.sha256(parcel.read_bytes()).digest()
        between = Clock.now()
        check_stored(parcel, manifest)
        taken[0].append((between - began).processor)
        taken[1].append((Clock.now() - between).processor)
    return statistics.median(taken[0]), statistics.median(taken[1])


def most_of_a_round(cost: Cost) -> float:
    """The most memory above the level before, in models, in the steps of a round: the run's summary comes after it."""
    return max(peak for step, peak in cost.peak_models.items() if step != "end")


def many_sites_as_text(result: ManySites) -> str:
    """The table of one model, in Markdown."""
    slope, intercept = result.line
    lines = [
        f"{result.n_parameters:,} parameters ({4 * result.n_parameters / 1e6:.1f} MB)",
        "",
        "| sites | processor s a round | ms a site | most memory in a round, MB |",
        "|---|---|---|---|",
    ]
    for number, cost in result.costs.items():
        each = 1e3 * cost.processor_seconds / number
        megabytes = 4e-6 * result.n_parameters * most_of_a_round(cost)
        lines.append(f"| {number} | {cost.processor_seconds:.3f} | {each:.1f} | {megabytes:.1f} |")
    lines += [
        "",
        f"least squares: {1e3 * slope:.1f} ms a site and {1e3 * intercept:.0f} ms a round; one reply's file read and "
        f"digested once {1e3 * result.read:.2f} ms, every tensor checked {1e3 * result.checked:.2f} ms",
    ]
    return "\n".join(lines)
