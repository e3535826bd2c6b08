"""The result table for a terminal: with rules and colours on one, as plain columns anywhere else."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from minet_core.report.summary import Scores, SiteSummary, Summary, verdict
from minet_core.report.wording import (
    KEPT_WORDS,
    KIND_WORDS,
    count_text,
    difference_text,
    gain_text,
    method_label,
    verdict_text,
)

COLUMNS = ("site", "method", "PSNR [dB]", "SSIM", "NMSE", "over sinc [dB]")


def print_table(summary: Summary, console: Console) -> None:
    """Print every site's scores and the verdict.

    Parameters
    ----------
    summary
        Of the run; a name is printed as it is, never read as markup.
    console
        A terminal gets rules and colours, anything else plain columns.
    """
    rows = [row for name, site in summary.all_sites().items() for row in _rows(name, site)]
    if console.is_terminal:
        _print_ruled(rows, summary, console)
    else:
        _print_plain(rows, console)
    for name, site in summary.all_sites().items():
        if site.few_patients:
            line = f"{name}: few patients, so its test figures say little about patients in general."
            console.print(Text(line), soft_wrap=True)
        if site.adaptation is not None:
            told = "; ".join(
                f"{words} {difference_text(found)}" for words, found in site.adaptation.differences.items()
            )
            line = f"{name} keeps {KEPT_WORDS[site.adaptation.chosen]}. PSNR by test patient [dB]: {told}."
            console.print(Text(line), soft_wrap=True)
    reason = "" if summary.status_reason is None else f" ({summary.status_reason})"
    progress = f"{summary.rounds} of {summary.rounds_declared} rounds"
    line = f"{summary.status}{reason}: {progress}. {verdict_text(verdict(summary))}"
    console.print(Text(line), soft_wrap=True)


def _rows(name: str, site: SiteSummary) -> list[tuple[str, ...]]:
    label = f"{name} ({KIND_WORDS[site.kind].short}, {count_text(site.n_test_volumes, 'test volume')})"
    methods = site.methods()
    if not methods:
        return [(label, "not evaluated", "", "", "", "")]
    return [
        (label if index == 0 else "", method_label(method), *_figures(scores, methods.get("sinc"), method))
        for index, (method, scores) in enumerate(methods.items())
    ]


def _figures(scores: Scores, sinc: Scores | None, method: str) -> tuple[str, ...]:
    gain = "" if sinc is None or method == "sinc" else gain_text(scores.psnr_db - sinc.psnr_db)
    return f"{scores.psnr_db:.2f}", f"{scores.ssim:.4f}", f"{scores.nmse:.5f}", gain


def _print_ruled(rows: list[tuple[str, ...]], summary: Summary, console: Console) -> None:
    table = Table(title=Text(f"{summary.name}, {summary.scale}x: means over the test volumes"))
    for index, column in enumerate(COLUMNS):
        table.add_column(Text(column), justify="left" if index < 2 else "right")
    for index, row in enumerate(rows):
        last_of_site = index + 1 == len(rows) or rows[index + 1][0] != ""
        style = "bold" if row[1] == method_label("global") else None
        table.add_row(*(Text(cell) for cell in row), style=style, end_section=last_of_site)
    console.print(table)


def _print_plain(rows: list[tuple[str, ...]], console: Console) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(COLUMNS, *rows, strict=True)]
    for row in (COLUMNS, *rows):
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        console.print(Text("  ".join(cells).rstrip()), soft_wrap=True)
