"""What a back-up brings, in words, before it is put into place: where its server would listen, and its secrets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minet_core.runtime.files.atomic_write import sha256_of_file
from server.admission.enrolment import admitted_sites
from server.admission.revocation import revocations
from server.backup.create import Contents
from server.server_home import LOCAL_NAMES, ServerHome, ServerSettings

ADDRESSES = ("hosts", "bind", "port", "public_port", "accept_shared_machine")
SECRETS = {
    "pki/ca.key": "the authority's key, under its passphrase",
    "pki/server.key": "the server's private key",
    "superlink/superexec.secret": "the executor's secret",
    "dashboard/password.argon2": "the hash of the screen's password",
}


@dataclass(frozen=True)
class Preview:
    """lines: all of it, for a person. notable: what nobody should restore without having read it."""

    lines: tuple[str, ...]
    notable: tuple[str, ...]


def preview_of(
    home: ServerHome, contents: Contents, *, is_signed: bool, former: ServerHome | None = None
) -> Preview:
    """What the verified folder `home` would bring; former: the present one, which it is held against."""
    present = former.settings() if former else ServerSettings()
    notable = [] if is_signed else ["It is not signed: whoever could write to the file may have made it."]
    lines = [
        f"The back-up of {contents.federation!r}, made {contents.made_at:%Y-%m-%d %H:%M} UTC by fedminet "
        f"{contents.versions['fedminet']}.",
        "Its authority, whose fingerprint every site was told by telephone:",
        f"  {contents.authority}",
    ]
    for key in ADDRESSES:
        value, now = getattr(home.settings(), key), getattr(present, key)
        line = f"  {key}: {_said(value)}" + (
            f" ({'now' if former else 'as shipped'}: {_said(now)})" if value != now else ""
        )
        lines.append(line)
        if value != now and (former or _opens(key, value)):
            notable.append(f"It changes{line[1:]}.")
    for name, what in SECRETS.items():
        found, known = _digest(home.path / name), _digest(former.path / name) if former else None
        if found is None:
            continue
        other = former is not None and found != known
        lines.append(f"  {what}: SHA-256 {found[:16]}" + (", another than now" if other else ""))
        if other:
            notable.append(f"It brings another one of {what} ({name}) than there is now.")
    sites, revoked = sorted(admitted_sites(home)), len(revocations(home.pki))
    lines.append(f"  admitted: {', '.join(sites) or 'no site'}; revoked: {revoked}")
    return Preview((*lines, *notable), tuple(notable))


def _opens(key: str, value: object) -> bool:
    """Whether a setting opens the coordinator further than it is shipped."""
    return (key == "bind" and value not in LOCAL_NAMES) or (key == "accept_shared_machine" and value is True)


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _digest(path: Path) -> str | None:
    return sha256_of_file(path) if path.is_file() else None
