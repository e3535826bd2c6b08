"""How large a function of the product may be, read from its source.

At most 60 lines, those of its docstring not counted, and 8 parameters, keyword-only ones too; `self` and `cls` do not
count. Two kinds of function have the parameters of something else and are held to the lines alone: a command of the
command line, whose parameters are its options, and the constructor of a class, whose parameters are its fields or
settings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support.repository import ROOT

ROOMS = ("client", "server", "minet_core", "sites", "fedminet")
MAX_LINES, MAX_PARAMETERS = 60, 8


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "command"
        for one in function.decorator_list
    )


def n_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def n_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From its `def` to its end, without its docstring: what a parameter means makes no function harder to read."""
    assert function.end_lineno is not None
    first = function.body[0]
    said = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) and first.end_lineno else 0
    return function.end_lineno - function.lineno + 1 - said


def is_large(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if n_lines(function) > MAX_LINES:
        return True
    free = is_command(function) or function.name == "__init__"
    return not free and n_parameters(function) > MAX_PARAMETERS


def functions_of(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_rule_sees_a_long_function_and_one_of_many_parameters() -> None:
    long = "def f():\n" + "    x = 1\n" * MAX_LINES
    many = f"def f(*, {', '.join(f'a{n}' for n in range(MAX_PARAMETERS + 1))}): ..."
    right = "def f(self, a, *, b):\n" + "    x = 1\n" * (MAX_LINES - 1)
    assert [[is_large(one) for one in functions_of(source)] for source in (long, many, right)] == [
        [True],
        [True],
        [False],
    ]


def test_no_function_of_the_product_is_larger() -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()}:{function.name}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for function in functions_of(path.read_text(encoding="utf-8"))
        if is_large(function)
    }
    assert not found


COMMAND_OUTPUT = re.compile(r"(.*_)?commands\.py")
"""The files of the command line, which answer a person or a script by `typer.echo`."""

PRINTED = {("client/preflight/preflight.py", "sys.stderr.write")}
"""What else writes to the terminal: the table of the checks before a start, which the command shows."""


def writes(source: str) -> Iterator[str]:
    """Calls that write to the terminal: `print`, `typer.echo`, `traceback.print_exc`, and the standard streams'."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if re.fullmatch(
                r"print|typer\.echo|click\.echo|traceback\.print_\w+|sys\.std(out|err)\.write\w*", called
            ):
                yield called


def test_the_two_programs_that_run_for_months_log_and_do_not_print() -> None:
    source = "import sys\nprint('x', file=sys.stderr)\nsys.stdout.write('x')\nlog.info('x')"
    assert list(writes(source)) == ["print", "sys.stdout.write"]
    found = {
        (path.relative_to(ROOT).as_posix(), called)
        for room in ("client", "server")
        for path in sorted((ROOT / room).rglob("*.py"))
        if not COMMAND_OUTPUT.fullmatch(path.name)
        for called in writes(path.read_text(encoding="utf-8"))
    }
    assert found == PRINTED
    commands = [path for room in ("client", "server") for path in (ROOT / room).rglob("*commands.py")]
    assert commands
    assert not [
        path for path in commands for called in writes(path.read_text(encoding="utf-8")) if called == "print"
    ]
