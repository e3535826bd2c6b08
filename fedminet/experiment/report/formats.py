"""A table, and how it is written: Markdown, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table with its title and a note below it. is_published: whether its figures are a paper's and not measured."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    is_published: bool = False


def as_markdown(table: Table) -> str:
    """A table of Markdown with its title and its note."""
    lines = [f"### {table.title}", "", "| " + " | ".join(table.header) + " |"]
    lines.append("|" + "---|" * len(table.header))
    lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join([*lines, "", table.note, ""])


def as_csv(tables: Iterable[Table]) -> str:
    """All tables below each other, the title in the first column of each line; a table's last line is its note."""
    rows: list[Sequence[str]] = []
    for table in tables:
        rows.append(("table", *table.header))
        rows += [(table.title, *row) for row in table.rows]
        if table.note:
            rows.append((table.title, "note", table.note))
    return rows_as_csv(rows)


def rows_as_csv(rows: Iterable[Sequence[str]]) -> str:
    """Rows alone, for another program to read."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def latex_remarks(sentences: Iterable[str]) -> str:
    """What must be read beside the tables, as comments above them."""
    return "".join(f"% {sentence}\n" for sentence in sentences)


def as_latex(table: Table) -> str:
    """A tabular with its caption."""
    body = [" & ".join(_latex(text) for text in row) + r" \\" for row in (table.header, *table.rows)]
    body.insert(1, r"\hline")
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_latex(table.title)}. {_latex(table.note)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            *body,
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "±": r"$\pm$",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
