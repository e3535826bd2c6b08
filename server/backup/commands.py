"""`fedminet server backup|restore`: the coordinator's folder in one file, and back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.admission.commands import CaKey, PassphraseFile, opened_authority

if TYPE_CHECKING:
    from server.backup.create import Contents
    from server.server_home import ServerHome

STREAM = "-"
"""In the place of a file: the standard output or input, as where a container sees no other disk."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def backup(
    home: Annotated[Path, typer.Argument(help="The coordinator's folder.")],
    file: Annotated[
        Path,
        typer.Argument(help="The file to write: a new one, best on another disk. -: the standard output."),
    ],
    passphrase_file: PassphraseFile = None,
    ca_key: CaKey = None,
    json_output: AsJson = False,
) -> None:
    """Back the coordinator's folder up to one signed file. Also while the server runs."""
    from server.backup.create import back_up, back_up_to
    from server.backup.signature import ensure_backup_key, has_backup_key
    from server.server_home import ServerHome

    if not has_backup_key(ServerHome.at(home).pki):
        typer.echo("The authority certifies a new key for back-ups, this once.", err=True)
        ensure_backup_key(opened_authority(ServerHome.at(home), passphrase_file, ca_key))
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
    authority: Annotated[
        str | None, typer.Option(help="The fingerprint of the authority that it must be of: forty digits.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="The present folder: what the back-up changes of it is shown.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Restore what is shown without being asked.")] = False,
    accept_unsigned: Annotated[
        bool,
        typer.Option("--accept-unsigned", help="Take a back-up of an earlier version, which nobody signed."),
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Make the coordinator's folder from a back-up. All of it is verified, and what it brings is shown, before."""
    from server.backup.preview import preview_of
    from server.backup.restore import restore as restore_file
    from server.backup.restore import restore_from
    from server.server_home import ServerHome

    former = ServerHome.at(compare) if compare else None

    def agree(half: ServerHome, contents: Contents, is_signed: bool) -> None:
        _require_authority(contents, authority)
        preview = preview_of(half, contents, is_signed=is_signed, former=former)
        for line in preview.lines:
            typer.echo(line, err=True)
        if preview.notable and not yes:
            _ask("Restore it all the same?")

    streamed = str(file) == STREAM
    source = sys.stdin.buffer
    made, contents = (
        restore_from(source, home, agree=agree, accept_unsigned=accept_unsigned)
        if streamed
        else restore_file(file, home, agree=agree, accept_unsigned=accept_unsigned)
    )
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


def _require_authority(contents: Contents, expected: str | None) -> None:
    from minet_core.errors import AdmissionRefused

    if expected is not None and "".join(expected.split()) != "".join(contents.authority.split()):
        raise AdmissionRefused(
            "the back-up is of another authority", got=contents.authority, expected=expected
        )


def _ask(question: str) -> None:
    from minet_core.errors import InvalidSetting

    if not sys.stdin.isatty():
        raise InvalidSetting(
            "somebody has to read what the back-up changes",
            got="no terminal",
            action="Read the lines above, and give --yes",
        )
    if not typer.confirm(question):
        raise InvalidSetting("the back-up was not restored", got="no")


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
