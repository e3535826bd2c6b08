"""The guide's pages: no block is left out of what is run, every command named is printed, every link leads on."""

from __future__ import annotations

import re

from tests.operations.pages import FOLDER, PAGES, RELEASE, blocks, inline_commands
from tests.operations.sections import FIRST, NOT_RUN, STORY, commands_to_the_first_training


def test_no_block_of_the_guide_is_left_out() -> None:
    printed = [block for page in PAGES for block in blocks(page)]
    assert {path.name for path in FOLDER.glob("*.md")} == {*PAGES, RELEASE}
    assert {(block.page, block.section) for block in printed if block.not_run is None} == set(STORY)
    assert len(set(STORY)) == len(STORY)
    not_run = {(block.page, block.section, block.not_run) for block in printed if block.not_run is not None}
    assert not_run == NOT_RUN
    for block in printed:
        assert all("docker" not in command for command in block.commands)  # docs/containers.md has those


def test_every_command_that_the_text_names_is_run_somewhere_in_the_guide() -> None:
    run = [
        command
        for page in PAGES
        for block in blocks(page)
        if block.not_run is None
        for command in block.commands
    ]
    for page in PAGES:
        for named in inline_commands(page):
            assert any(command.startswith(named) for command in run), f"{page}: {named}"


def test_every_link_of_the_guide_leads_somewhere() -> None:
    for page in (*PAGES, RELEASE):
        for target in re.findall(r"\]\(([^)]+)\)", (FOLDER / page).read_text(encoding="utf-8")):
            name, _, anchor = target.partition("#")
            path = (FOLDER / name).resolve() if name else FOLDER / page
            assert path.is_file(), f"{page}: {target}"
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or anchor in anchors, f"{page}: {target}"


def test_the_guide_states_the_number_of_its_commands() -> None:
    assert f"**{commands_to_the_first_training()} commands**" in (FOLDER / FIRST).read_text(encoding="utf-8")
