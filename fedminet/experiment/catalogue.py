"""The experiments that there are: what each trains, at which scales, and which scores its tables have."""

from __future__ import annotations

from dataclasses import dataclass

from fedminet.experiment.methods import INTEGRATION, TABLE_1, TABLE_2, Equal


@dataclass(frozen=True)
class Experiment:
    """methods, scales and equal: where nothing else is asked for. equal: what each method gets as much of as MINet."""

    title: str
    methods: tuple[str, ...]
    scales: tuple[int, ...] = (2, 4)
    scores: tuple[str, ...] = ("psnr_db", "ssim")
    equal: Equal = "time"


EXPERIMENTS: dict[str, Experiment] = {
    "table1": Experiment("Table 1: every method on every site", TABLE_1),
    "table2": Experiment(
        "Table 2: the ablations of MINet", TABLE_2, scales=(2,), scores=("nmse", "psnr_db", "ssim")
    ),
    "figure3": Experiment("Figure 3: images and error maps", TABLE_1),
    "reference": Experiment("What the reference adds", ("edsr", "smore", "without-reference", "minet")),
    "integration": Experiment(
        "What the multi-stage integration adds, by the size of the model",
        INTEGRATION,
        scales=(2,),
        equal="steps",
    ),
}
