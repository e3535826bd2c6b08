"""`fedminet server backup|restore`: the coordinator's folder in one file, and back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.backup import Contents

STREAM = "-"
"""In the place of a file: the standard output or input, as where a container sees no other disk."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def add_backup_commands(commands: typer.Typer) -> None:
    """Put the commands of this file under `fedminet server`."""
    commands.command("backup")(backup)
    commands.command("restore")(restore)


def backup(
    home: Annotated[Path, typer.Argument(help="The coordinator's folder.")],
    file: Annotated[
        Path,
        typer.Argument(help="The file to write: a new one, best on another disk. -: the standard output."),
    ],
    json_output: AsJson = False,
) -> None:
    """Write a back-up of the coordinator's folder to one file, also while the server runs."""
    from server.backup import back_up, back_up_to
    from server.server_home import ServerHome

    if str(file) == STREAM:
        contents = back_up_to(ServerHome.at(home), sys.stdout.buffer)
        sys.stdout.flush()
        typer.echo(f"The back-up of {_said(contents)} was written.", err=True)
        return
    contents = back_up(ServerHome.at(home), file)
    if json_output:
        typer.echo(json.dumps(_facts(contents) | {"file": str(file), "n_bytes": file.stat().st_size}))
        return
    typer.echo(f"The back-up of {_said(contents)} is {file}, {file.stat().st_size / 1e6:.1f} MB.")
    typer.echo("Keep it as you keep the folder: the server's private key is in it.")


def restore(
    file: Annotated[Path, typer.Argument(help="The back-up. -: the standard input.")],
    home: Annotated[
        Path, typer.Argument(help="The coordinator's folder to make: a new one, or an empty one.")
    ],
    json_output: AsJson = False,
) -> None:
    """Make the coordinator's folder from a back-up, after all of it was verified."""
    from server.restore import restore as restore_file
    from server.restore import restore_from

    streamed = str(file) == STREAM
    made, contents = restore_from(sys.stdin.buffer, home) if streamed else restore_file(file, home)
    if json_output:
        typer.echo(json.dumps(_facts(contents) | {"home": str(made.path)}))
        return
    typer.echo(
        f"The coordinator of {_said(contents)} is at {home} again, as of {contents.made_at:%Y-%m-%d %H:%M} UTC."
    )
    typer.echo(
        "Not in it: what was admitted, renewed or revoked since. Give every revocation since then again, before"
    )
    typer.echo("you start the server.")


def _said(contents: Contents) -> str:
    return (
        f"{contents.federation!r} ({len(contents.files)} files, runs: {', '.join(contents.runs) or 'none'})"
    )


def _facts(contents: Contents) -> dict[str, object]:
    return {
        "federation": contents.federation,
        "authority_fingerprint": contents.authority,
        "made_at": contents.made_at.isoformat(),
        "fedminet": contents.versions["fedminet"],
        "runs": list(contents.runs),
        "n_files": len(contents.files),
    }
