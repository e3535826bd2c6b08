"""The operations guide as it is printed: its blocks of commands, in order, and what its comments say of their end.

A block is a fence of the language `sh`. Before it may stand, as comments that a reader does not see,

    <!-- test: keeps running -->         the command does not end by itself
    <!-- test: until TEXT -->            it is given again until it prints TEXT
    <!-- test: exit N -->                it ends with this status
    <!-- test: Ctrl-C COMMAND -->        what keeps running is ended first
    <!-- test: at coordinator -->        whose machine it is from here to the next heading, where the heading names none

A fence `sh not-run: REASON` is not run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.repository import ROOT

FOLDER = ROOT / "docs" / "operations"
PAGES = ("README.md", "first-training.md", "coordinator.md", "hospital.md", "incidents.md")
RELEASE = "verify-a-release.md"
"""A page of its own: tests/operations/test_release.py gives its commands."""

_HEADING = re.compile(r"#+ (.*)")
_COMMENT = re.compile(r"<!-- test: (.*) -->")
_FENCE = re.compile(r"```(\S*)(?: not-run: (.*))?")


@dataclass(frozen=True)
class Block:
    """Commands that stand together. machine: whose; notes: of the comments before it; not_run: why, if so.

    script: as printed. commands: a line each, for counting and for looking up.
    """

    page: str
    section: str
    machine: str
    script: str
    commands: tuple[str, ...]
    notes: tuple[str, ...]
    not_run: str | None

    def note(self, kind: str) -> str | None:
        """What stands behind `kind` in a comment; None where there is none."""
        found = [note.removeprefix(kind).strip() for note in self.notes if note.startswith(kind)]
        return found[-1] if found else None


def blocks(page: str) -> list[Block]:
    """Every block of commands of a page. Fails for a fence of an unknown kind, and for code without a fence."""
    found: list[Block] = []
    section, machine, notes = "", "", list[str]()
    lines = iter((FOLDER / page).read_text(encoding="utf-8").splitlines())
    for line in lines:
        if heading := _HEADING.fullmatch(line):
            section = heading[1]
            machine = _machine(section) or _machine(page)
        elif comment := _COMMENT.fullmatch(line):
            notes.append(comment[1])
            machine = comment[1].removeprefix("at ") if comment[1].startswith("at ") else machine
        elif fence := _FENCE.fullmatch(line):
            content = []
            for inner in lines:
                if inner == "```":
                    break
                content.append(inner)
            assert fence[1] in ("sh", "text", "yaml", "ini"), f"{page}: a fence of the language {fence[1]!r}"
            if fence[1] == "sh":
                assert machine in ("coordinator", "hospital"), f"{page}: whose machine is it in {section!r}?"
                script, commands = "\n".join(content), _commands(content)
                found.append(Block(page, section, machine, script, commands, tuple(notes), fence[2]))
                notes = []
        else:
            assert not line.startswith(("    ", "```")), f"{page}: code without a fence: {line!r}"
    assert not notes, f"{page}: a comment without a block: {notes}"
    return found


def inline_commands(page: str) -> set[str]:
    """The commands of ours that a page names in its text and its tables: `fedminet GROUP VERB`."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return {match[1] for match in re.finditer(r"`(fedminet(?: [a-z-]+){1,2})\b", prose)}


def _machine(text: str) -> str:
    named = [machine for machine in ("coordinator", "hospital") if machine in text.lower()]
    return named[0] if len(named) == 1 else ""


def _commands(lines: list[str]) -> tuple[str, ...]:
    joined = "\n".join(lines).replace("\\\n", " ")
    return tuple(line for line in joined.splitlines() if line.strip() and not line.startswith("#"))
