"""The commands of docs/admission.md are commands that there are, with options that they have."""

from __future__ import annotations

import re
import shlex

import click
import pytest
import typer

from fedminet.main import command_line
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "admission.md"
COMMANDS = re.findall(r"^    (fedminet .*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_page_has_the_whole_way() -> None:
    verbs = {tuple(line.split()[1:3]) for line in COMMANDS}
    assert {("server", "admit"), ("site", "accept"), ("server", "renew"), ("server", "revoke")} <= verbs


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_is_understood(line: str) -> None:
    command: click.Command = typer.main.get_command(command_line())
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    command.make_context(line, words)  # raises where an option or an argument is none of it
