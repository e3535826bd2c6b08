"""What of Flower is not its public API: where it may stand, and that this release has all of it.

With a new release this page fails by the name of what moved, before a deployment fails by something else.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.flower import timeouts
from tests.support.repository import ROOT

PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation", "flwr"}
ROOMS = ("client", "server", "minet_core", "sites", "fedminet")
FOLDERS = ("client/flower", "server/flower")


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import from Flower in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "flwr":
            yield from ((node.module, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names if name.name.partition(".")[0] == "flwr")


def named_in_text(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) where a module is named by a string: `_module("flwr.x", "name")`, `import_module("flwr.x")`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            words = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
            if isinstance(words[0], str) and re.fullmatch(r"flwr(\.\w+)+", words[0]):
                yield words[0], words[1] if len(words) > 1 and isinstance(words[1], str) else ""


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


USED = sorted({one for path in files(*FOLDERS) for one in (*imported(path), *named_in_text(path))})
PATCHED = sorted({(module, name) for module, name, *_ in timeouts.INTERVALS})


def test_it_is_known_what_is_used() -> None:
    assert len(USED) > 40
    assert PATCHED


def test_only_the_two_folders_know_what_is_private() -> None:
    private = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in files(*ROOMS)
        if not str(path.relative_to(ROOT)).startswith(FOLDERS)
        for module, _ in imported(path)
        if module not in PUBLIC
    }
    assert private == set()


@pytest.mark.parametrize(("module", "name"), USED + PATCHED)
def test_this_release_has(module: str, name: str) -> None:
    found = importlib.import_module(module)
    if name and not hasattr(found, name):
        importlib.import_module(f"{module}.{name}")  # a module that its package does not import
