"""`make faults ARGS=run`: every fault at its full size, and what became of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minet_core.errors import InvalidSetting
from tests.faults.coordinator import coordinator, coordinator_as_text
from tests.faults.endurance import endurance, endurance_as_text
from tests.faults.hostile import hostile_as_text, hostile_table
from tests.faults.kills import kills, kills_as_text
from tests.faults.many_sites import MODELS, many_sites, many_sites_as_text
from tests.faults.partition import partition, partition_as_text
from tests.support.deployment_logs import logs_shown

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """One kind of fault: what it is called, and what tries it in a new folder and gives the table."""

    title: str
    run: Callable[[Path, int, Say], str]


TRIALS = {
    "hostile": Trial(
        "Hostile and broken replies", lambda _out, _repeats, _say: hostile_as_text(hostile_table())
    ),
    "kills": Trial(
        "SIGKILL at every phase of a round",
        lambda out, repeats, say: kills_as_text(kills(out, repeats=repeats, say=say)),
    ),
    "partition": Trial(
        "A site cut off for longer than a round",
        lambda out, _repeats, _say: partition_as_text(partition(out)),
    ),
    "endurance": Trial("Two hundred rounds", lambda _out, _repeats, _say: endurance_as_text(endurance())),
    "coordinator": Trial(
        "The coordinator alone, a hundred sites",
        lambda _out, _repeats, _say: coordinator_as_text(coordinator()),
    ),
    "sites": Trial(
        "A round of the coordinator by the number of sites",
        lambda _out, _repeats, _say: "\n\n".join(
            many_sites_as_text(many_sites(model=model)) for model in MODELS.values()
        ),
    ),
}


def bench_faults(parts: Sequence[str], *, repeats: int, say: Say) -> None:
    """Try the faults of `parts`, all of them where none is named, and say each table. Raises InvalidSetting."""
    unknown = sorted(set(parts) - set(TRIALS))
    if unknown:
        raise InvalidSetting("there is no such fault trial", got=unknown[0], expected=", ".join(TRIALS))
    for name in parts or TRIALS:
        trial = TRIALS[name]
        say(f"{trial.title}\n")
        with tempfile.TemporaryDirectory(prefix=f"faults-{name}-") as folder, logs_shown(Path(folder)):
            say(trial.run(Path(folder), repeats, say) + "\n")
