"""Public functions say what they take and give: numpydoc sections, read from the source.

A function of a room, and a public method of a public class, has a section `Parameters` that names exactly the parameters of
its signature, and a section `Returns` or `Yields` where it gives something. A method that takes nothing and gives one plain
value, a property and a method that fulfils a protocol or a base class of this project by its name need none: the
text stands where the name is declared. `MISSING` names what has none yet: a name may leave it and none may come.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

from tests.support.repository import ROOT

ROOMS = ("minet_core", "sites")

MISSING: frozenset[str] = frozenset()

Function = ast.FunctionDef | ast.AsyncFunctionDef

PLAIN = frozenset({"bool", "int", "float", "str", "bytes", "Path"})
NOTHING = re.compile(r"None|NoReturn|Never|(?:Abstract\w+|Iterator|Generator|AsyncIterator)\[None(?:, None)*\]")
HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def sections_of(docstring: str) -> dict[str, str]:
    """The text under each heading that is underlined."""
    parts = HEADING.split(inspect.cleandoc(docstring))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named_in(section: str) -> set[str]:
    """The names of a section's entries: `one, other : type` names two."""
    heads = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return {name.strip().lstrip("*") for head in heads for name in head.split(" : ")[0].split(",")}


def parameters_of(function: Function) -> set[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    named += [one for one in (given.vararg, given.kwarg) if one is not None]
    return {one.arg for one in named} - {"self", "cls"}


def decorators_of(function: Function) -> set[str]:
    return {ast.unparse(one).split("(")[0].split(".")[-1] for one in function.decorator_list}


def faults_of(function: Function, *, is_method: bool) -> list[str]:
    """What the docstring of a public function lacks, or says of a parameter that is none."""
    parameters = parameters_of(function)
    returned = "None" if function.returns is None else ast.unparse(function.returns)
    gives = not NOTHING.fullmatch(returned)
    if is_method and not parameters and (not gives or returned.removesuffix(" | None") in PLAIN):
        return []
    sections = sections_of(ast.get_docstring(function) or "")
    named = named_in(sections.get("Parameters", ""))
    faults = [f"the parameter {name} is not in Parameters" for name in sorted(parameters - named)]
    faults += [f"Parameters names {name}, which the signature lacks" for name in sorted(named - parameters)]
    if gives != bool({"Returns", "Yields"} & sections.keys()):
        faults.append("no section Returns or Yields" if gives else "Returns, and nothing is returned")
    return faults


def is_public(name: str) -> bool:
    return not name.startswith("_")


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function, bool]]:
    """Each by its name, and whether it is a method; properties and validators of settings left out."""
    for node in tree.body:
        if isinstance(node, Function) and is_public(node.name):
            yield node.name, node, False
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            for one in node.body:
                if isinstance(one, Function) and is_public(one.name):
                    if not decorators_of(one) & {"property", "cached_property", "setter", "overload"}:
                        yield f"{node.name}.{one.name}", one, True


def faults_of_rooms() -> dict[str, list[str]]:
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for name, function, is_method in public_functions(tree):
                faults = faults_of(function, is_method=is_method)
                if faults:
                    found[f"{path.relative_to(ROOT).as_posix()}:{name}"] = faults
    return found
