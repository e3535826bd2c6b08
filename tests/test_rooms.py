"""The rooms: each has a README that names its files, and nothing else."""

import re
from pathlib import Path

import pytest

from tests.support.repository import ROOT

ROOMS = [
    folder.parent
    for top in ("client", "server", "minet_core", "sites", "fedminet")
    for folder in sorted((ROOT / top).rglob("__init__.py"))
    if len([file for file in folder.parent.glob("*.py") if file.name != "__init__.py"]) > 2
    and folder.parent.parts[-2:]
    not in {("phantom", "brain"), ("phantom", "knee"), ("models", "baselines"), ("models", "minet")}
]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_rooms_page_names_each_of_its_files_and_no_other(room: Path) -> None:
    page = (room / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", page))
    missing = {name for name in named if not (room / name).exists() and not (ROOT / name).exists()}
    assert not missing, "named and not there"
    files = {file.name for file in room.glob("*.py")} - {"__init__.py", "__main__.py"}
    unnamed = {
        name for name in files if f"`{name}`" not in page and f"`{name.removesuffix('.py')}`" not in page
    }
    assert not unnamed, "there and not named"
