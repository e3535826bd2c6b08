"""The page of `experiment gate`: verdicts by way, PSNR by way, and every figure as it was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

Row = dict[str, Any]


def page(
    verdicts: Sequence[Row],
    pictures: Sequence[Row],
    by_infer: Sequence[Row],
    inputs: Sequence[Row],
    *,
    scale: int,
    steps: int,
) -> str:
    """The tables in Markdown.

    Parameters
    ----------
    verdicts, pictures, by_infer, inputs
        As `fedminet.experiment.gate.run` makes them.
    scale, steps
        Of the models.

    Returns
    -------
    str
        With a line for each way; figures of several patients as their mean, and the worst beside it.
    """
    parts = [f"# The gate, {scale}x\n", _roc(verdicts), _by_way(verdicts)]
    if pictures:
        parts.append(_psnr(pictures, steps=steps))
    if by_infer:
        parts.append(_by_infer(by_infer, steps=steps))
    if inputs:
        parts.append(_inputs(inputs))
    return "\n".join(parts)


def coverage(rows: Sequence[Row]) -> str:
    """The table of error bars.

    Parameters
    ----------
    rows
        As `fedminet.experiment.gate.error_bars.coverage_rows`, with `model` and `guided`.

    Returns
    -------
    str
        Markdown: of each model and kind of picture the means over patients, their least and their most.
    """
    lines = [
        "\nError bars by the other patients, the share of a left-out patient's errors within: mean, least and most of "
        "patients; by quarters of the anatomy, of the least bar first.\n",
        "| model | picture | patients | level | spread | error bars | by quarters | factor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, guided in dict.fromkeys((row["model"], row["guided"]) for row in rows):
        some = [row for row in rows if (row["model"], row["guided"]) == (model, guided)]
        for level, factor in (("0.68", "factor_68"), ("0.95", "factor_95")):
            held = [row["held"][level] for row in some]
            quarters = zip(*(row["held_by_quarter"][level] for row in some), strict=True)
            cells = [
                model,
                "with the reference" if guided else "without",
                str(len(some)),
                f"{float(level):.0%}",
                f"{fmean(row['held_by_spread'][level] for row in some):.1%}",
                f"{fmean(held):.1%} ({min(held):.1%} to {max(held):.1%})",
                ", ".join(f"{fmean(quarter):.0%}" for quarter in quarters),
                f"{fmean(row[factor] for row in some):.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _roc(verdicts: Sequence[Row]) -> str:
    lines = ["| image | wrong ones named | right ones named |", "|---|---|---|"]
    for image in ("patient", "slice"):
        of_image = [row for row in verdicts if row["image"] == image]
        counts = []
        for wrong in (True, False):
            asked = [row["named"] for row in of_image if row["wrong"] is wrong]
            counts.append(f"{sum(asked)} of {len(asked)}")
        lines.append(f"| {image} | {counts[0]} | {counts[1]} |")
    return "\n".join(lines) + "\n"


def _by_way(verdicts: Sequence[Row]) -> str:
    lines = [
        "| reference | named, patients | named, slices | agreement | misplacement | trusted |",
        "|---|---|---|---|---|---|",
    ]
    for way in _ways(verdicts):
        rows = [row for row in verdicts if row["way"] == way]
        whole = [row for row in rows if row["image"] == "patient"]
        slices = [row for row in rows if row["image"] == "slice"]
        cells = [
            *(f"{sum(row['named'] for row in some)} of {len(some)}" for some in (whole, slices)),
            *(_range([row[name] for row in whole]) for name in ("agreement", "misplacement", "trusted")),
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _psnr(pictures: Sequence[Row], *, steps: int) -> str:
    methods = list(dict.fromkeys(method for row in pictures for method in row["psnr_db"]))
    lines = [
        f"PSNR [dB] after {steps} steps, mean and least over {len({row['patient'] for row in pictures})} patients:\n",
        f"| reference | {' | '.join(methods)} |",
        f"|---|{'---|' * len(methods)}",
    ]
    for way in _ways(pictures):
        rows = [row["psnr_db"] for row in pictures if row["way"] == way]
        found = [[row[method] for row in rows if method in row] for method in methods]
        cells = [f"{fmean(values):.2f} ({min(values):.2f})" for values in found]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _by_infer(rows: Sequence[Row], *, steps: int) -> str:
    """Of each model: mean and least PSNR of the pictures, and how many were refused."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    n_patients = len({row["patient"] for row in rows})
    alone = ", ".join(
        f"{model} {fmean(row['alone_db'] for row in rows if row['model'] == model):.2f}" for model in models
    )
    lines = [
        f"By `fedminet infer`, PSNR [dB] of whole scans, {steps} steps, mean and least over {n_patients} patients. "
        f"sinc: {fmean(row['sinc_db'] for row in rows):.2f}. The models given no reference: {alone}.\n",
        f"| reference | {' | '.join(models)} |",
        f"|---|{'---|' * len(models)}",
    ]
    for way in _ways(rows):
        cells = [_outcome([row for row in rows if (row["way"], row["model"]) == (way, of)]) for of in models]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _inputs(rows: Sequence[Row]) -> str:
    """Of each model the mean PSNR, with the least difference to sinc of a patient, and how many were warned of."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = [
        "Inputs that depart from training, with the right reference, by `fedminet infer`: PSNR [dB], the least gain "
        "over sinc of the same input, and of how many patients a caution was said.\n",
        f"| input | sinc | {' | '.join(models)} |",
        f"|---|---|{'---|' * len(models)}",
    ]
    for way in _ways(rows):
        of_way = [row for row in rows if row["way"] == way]
        cells = [_gain([row for row in of_way if row["model"] == model]) for model in models]
        lines.append(f"| {way} | {fmean(row['sinc_db'] for row in of_way):.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _gain(rows: Sequence[Row]) -> str:
    made = [row for row in rows if row["psnr_db"] is not None]
    if not made:
        return f"{len(rows)} refused"
    least = min(row["psnr_db"] - row["sinc_db"] for row in made)
    warned = sum(bool(row["said"]) for row in made)
    text = f"{fmean(row['psnr_db'] for row in made):.2f}, {least:+.2f}, {warned} of {len(made)}"
    return text + (f", {len(rows) - len(made)} refused" if len(made) < len(rows) else "")


def _outcome(rows: Sequence[Row]) -> str:
    made = [row["psnr_db"] for row in rows if row["psnr_db"] is not None]
    n_refused = len(rows) - len(made)
    refused = f"{n_refused} refused" if n_refused else ""
    return ", ".join(filter(None, (f"{fmean(made):.2f} ({min(made):.2f})" if made else "", refused)))


def _ways(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["way"] for row in rows))


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"
