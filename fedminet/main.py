"""The one command, `fedminet`: the coordinator's group, the site's group, and the verbs they share.

A failure that has a code is printed as one line with its code, and sets the exit status of its branch.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import typer
from typer.core import TyperGroup

from client.commands import site_commands
from fedminet.bench.commands import bench_commands
from fedminet.commands import add_shared_verbs
from minet_core.errors import FedminetError
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.files.file_failures import failure_of
from minet_core.runtime.logs import is_set_up
from minet_core.runtime.memory import keep_freed_memory
from minet_core.runtime.versions import version_line
from server.commands import server_commands

INTERRUPTED = 130
"""Exit status after Ctrl-C, by the shells' convention (128 + SIGINT)."""

GROUPS: dict[str, tuple[typer.Typer, str]] = {
    "server": (server_commands, "For the coordinator: admit sites, start the server, run."),
    "site": (site_commands, "For a hospital: ingest scans, check them, start the client."),
    "bench": (bench_commands, "Measurements on this machine."),
}
"""Commands by the group's name, and its line on the page of help."""


def command_line(group: str | None = None) -> typer.Typer:
    """The command line; where `group` names one of GROUPS, that group's alone.

    Typer reads the options of every command that it is given before it calls one: a tenth of a second for all of them.
    """
    app = typer.Typer(
        name="fedminet",
        help="Federated training of multi-contrast MRI super-resolution (MINet) between hospitals.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(_version)
    for name in GROUPS if group not in GROUPS else (group,):
        commands, line = GROUPS[name]
        app.add_typer(commands, name=name, help=line)
    if group not in GROUPS:
        add_shared_verbs(app)
    return app


def _version(version: bool = typer.Option(False, "--version", help="Print the versions and leave.")) -> None:
    if version:
        typer.echo(version_line())
        raise typer.Exit


def run() -> None:
    """The console script."""
    for name, value in cpu_threading_environment().items():  # before any command imports torch
        os.environ.setdefault(name, value)
    group = sys.argv[1] if len(sys.argv) > 1 else None
    if group not in GROUPS:  # a shared verb computes here, where those variables come too late
        keep_freed_memory()
    try:
        command = typer.main.get_command(command_line(group))
        _prepare_options(command)
        command()
    except SystemExit as left:
        if left.code == INTERRUPTED:  # typer takes Ctrl-C itself, and leaves without a word
            _say(logging.INFO, "Interrupted; every child process has been ended.")
        raise
    except FedminetError as failure:
        _say(logging.ERROR, str(failure))
        sys.exit(failure.exit_status)
    except OSError as failure:  # of a file that no command looks after itself
        if failure.errno is None or failure.filename is None:
            raise
        path = Path(os.fsdecode(failure.filename))
        named = failure_of(failure, f"{path} cannot be read or written", path=path)
        _say(logging.ERROR, str(named))
        sys.exit(named.exit_status)
    except KeyboardInterrupt:
        _say(logging.INFO, "Interrupted; every child process has been ended.")
        sys.exit(INTERRUPTED)


def _prepare_options(command: click.Command) -> None:
    """What click and typer leave to be desired of every option, of all commands below too.

    A page of help is plain text: typer 0.20 writes brackets for rich, a backslash before each, where it is told not to
    use it too, and offers what a mistyped command may have meant beside click, which does so itself.

    A path is refused by no one before its command reads it: click says neither whose the folder is nor what to do. What
    is no finite number is refused at once: it lies within ranges, and is found by the settings alone, after minutes.
    """
    if isinstance(command, TyperGroup):
        command.suggest_commands = False
    for parameter in command.params:
        parameter.get_help_record = partial(_plain_help, parameter.get_help_record)  # type: ignore[method-assign]
        if isinstance(parameter.type, click.Path):
            parameter.type.readable = False
        if isinstance(parameter.type, click.types.FloatParamType) and parameter.callback is None:
            parameter.callback = _require_finite
    for below in getattr(command, "commands", {}).values():
        _prepare_options(below)


def _plain_help(
    written: Callable[[click.Context], tuple[str, str] | None], context: click.Context
) -> tuple[str, str] | None:
    """A parameter's line on the page of help without the backslashes before brackets."""
    line = written(context)
    return None if line is None else (line[0], line[1].replace("\\[", "["))


def _require_finite(context: click.Context, parameter: click.Parameter, value: object) -> object:
    """Raises click.BadParameter for "nan" and "inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number.", ctx=context, param=parameter)
    return value


def _say(level: int, text: str) -> None:
    """On the standard error, where the log of a command goes that keeps one."""
    if is_set_up():
        logging.getLogger("fedminet").log(level, "%s", text)
    else:
        sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    run()
