"""Public functions say what they take and give: numpydoc sections, read from the source.

A public function, and a public method of a public class, has a section `Parameters` that names the parameters of its
signature and no other, and a section `Returns` or `Yields` where it gives something. A property has neither, and a
method that takes nothing and gives one plain value needs neither. The parameters of a constructor stand in the text of
its class. `MISSING` names what has no such text yet: a name may
leave it and none may come.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from tests.support.repository import ROOT

ROOMS = ("minet_core", "sites")

MISSING: frozenset[str] = frozenset()

Function = ast.FunctionDef | ast.AsyncFunctionDef

PLAIN = frozenset({"bool", "int", "float", "str", "bytes", "Path"})
NOTHING = re.compile(
    r"None|NoReturn|Never|(?:Iterator|Generator|AsyncIterator|AsyncGenerator)\[None(?:, None)*\]"
)
PROPERTIES = frozenset({"property", "cached_property", "setter", "overload"})
HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def sections_of(docstring: str) -> dict[str, str]:
    """The text under each heading that is underlined."""
    parts = HEADING.split(inspect.cleandoc(docstring))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def names_in(section: str) -> set[str]:
    """The names of a section's entries: `one, other : type` names two."""
    heads = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return {name.strip().lstrip("*") for head in heads for name in head.split(" : ")[0].split(",")}


def parameters_of(function: Function) -> set[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    named += [one for one in (given.vararg, given.kwarg) if one is not None]
    return {one.arg for one in named} - {"self", "cls"}


def faults_of_parameters(parameters: set[str], sections: dict[str, str]) -> list[str]:
    named = names_in(sections.get("Parameters", ""))
    faults = [f"the parameter {name} is not in Parameters" for name in sorted(parameters - named)]
    return faults + [
        f"Parameters names {name}, which the signature lacks" for name in sorted(named - parameters)
    ]


def faults_of_class(node: ast.ClassDef) -> list[str]:
    """What the docstring of a public class lacks of its own constructor."""
    made = [one for one in node.body if isinstance(one, Function) and one.name == "__init__"]
    sections = sections_of(ast.get_docstring(node) or "")
    return [fault for one in made for fault in faults_of_parameters(parameters_of(one), sections)]


def faults_of(function: Function, *, is_method: bool) -> list[str]:
    """What the docstring of a public function lacks, or says of a parameter that is none."""
    parameters = parameters_of(function)
    returned = "None" if function.returns is None else ast.unparse(function.returns)
    gives = NOTHING.fullmatch(returned) is None
    sections = sections_of(ast.get_docstring(function) or "")
    faults = faults_of_parameters(parameters, sections)
    told = bool({"Returns", "Yields"} & sections.keys())
    is_plain = is_method and not parameters and returned.removesuffix(" | None") in PLAIN
    if gives and not told and not is_plain:
        faults.append("no section Returns or Yields")
    if told and not gives:
        faults.append("a section Returns or Yields, and nothing is given")
    return faults


def is_public(node: ast.stmt) -> bool:
    return isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")


def is_property(function: Function) -> bool:
    names = {ast.unparse(one).split("(")[0].split(".")[-1] for one in function.decorator_list}
    return bool(names & PROPERTIES)


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function, bool]]:
    """Each by its name, and whether it is a method."""
    for node in filter(is_public, tree.body):
        if isinstance(node, Function):
            yield node.name, node, False
        elif isinstance(node, ast.ClassDef):
            for one in filter(is_public, node.body):
                if isinstance(one, Function) and not is_property(one):
                    yield f"{node.name}.{one.name}", one, True


def faults_in(source: str) -> dict[str, list[str]]:
    tree = ast.parse(source)
    found = {name: faults_of(one, is_method=is_method) for name, one, is_method in public_functions(tree)}
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and is_public(node))
    found |= {node.name: faults_of_class(node) for node in classes}
    return {name: faults for name, faults in found.items() if faults}


def faults_of_room(room: str) -> dict[str, list[str]]:
    return {
        f"{path.relative_to(ROOT).as_posix()}:{name}": faults
        for path in sorted((ROOT / room).rglob("*.py"))
        for name, faults in faults_in(path.read_text(encoding="utf-8")).items()
    }


TOLD = '''
def told(x: int, *rest: int, y: int, z: int) -> int:
    """Add.

    Parameters
    ----------
    x : int, mm
        One.
    *rest
        More.
    y, z
        Others.

    Returns
    -------
    int
        The sum.
    """


class Shape:
    def area(self) -> float:
        """Its area, mm^2."""

    def draw(self) -> None:
        """Draw it."""
'''


def test_a_function_that_is_told_whole_has_no_fault() -> None:
    assert faults_in(TOLD) == {}


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("y, z\n", "y\n", "the parameter z is not in Parameters"),
        ("y: int, ", "", "Parameters names y, which the signature lacks"),
        ("    Returns\n    -------\n    int\n        The sum.\n", "", "no section Returns or Yields"),
        ("z: int) -> int", "z: int) -> None", "a section Returns or Yields, and nothing is given"),
    ],
)
def test_each_fault_is_seen(old: str, new: str, fault: str) -> None:
    assert TOLD.count(old) == 1
    assert faults_in(TOLD.replace(old, new)) == {"told": [fault]}


def test_a_method_that_takes_something_is_a_function_as_any() -> None:
    assert list(faults_in(TOLD.replace("area(self)", "area(self, scale: float)"))) == ["Shape.area"]


def test_the_parameters_of_a_constructor_stand_in_the_text_of_its_class() -> None:
    made = TOLD.replace(
        "    def draw(self)", "    def __init__(self, edge_mm: float) -> None: ...\n\n    def draw(self)"
    )
    assert faults_in(made) == {"Shape": ["the parameter edge_mm is not in Parameters"]}
    told = made.replace(
        "class Shape:\n",
        'class Shape:\n    """Any.\n\n    Parameters\n    ----------\n    edge_mm\n        An edge, mm.\n    """\n',
    )
    assert faults_in(told) == {}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_of_a_room_says_what_it_takes_and_gives(room: str) -> None:
    found = faults_of_room(room)
    new = {name: faults for name, faults in found.items() if name not in MISSING}
    told = {name for name in MISSING if name.startswith(f"{room}/") and name not in found}
    assert not new
    assert not told, "has its sections: take it out of MISSING"
