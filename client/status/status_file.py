"""`status.json`: what the site's client knows of itself, written by its supervisor.

In the site's folder where one process keeps the whole client; in `status/node` and `status/trainer` where these are two
(client.processes.node_and_trainer), each with a page of its own. The page outlives its client; whether there is one
is told by the lock on `client.lock` beside it, which the kernel lets go of when the process ends, however that was,
and which another container sees as well. The lock's file names the start of whoever holds it, and the page the start
that wrote it: what a killed client left does not pass for its successor's. The page's time of change says when the
client last looked after itself.
Imports neither torch nor Flower.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from client.status.finding import Finding
from minet_core.errors import FedminetError, FileNotWritten, SiteAlreadyRunning
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.files.file_lock import is_locked, let_go, locked_within
from minet_core.runtime.files.typed_page import Timestamp, read_typed
from minet_core.runtime.json_text import NOT_AS_WRITTEN, parse_json

STATUS_FILE = "status.json"
LOCK_FILE = "client.lock"

LOOK_INTERVAL_S = 5.0
"""How often the page's time of change is renewed while nothing else changes."""

LOCK_PATIENCE_S = 2.0
"""A look at the lock holds it for less than a millisecond."""

_ENDED_BY = {KeyboardInterrupt: "ended by Ctrl-C", SystemExit: "ended by a signal"}


@dataclass(frozen=True)
class Registration:
    """Whether the server let the node in. since: seconds since 1970. reason: why not. next_try: of an ended node."""

    registered: bool
    since: Timestamp
    node_id: int | None = None
    reason: str | None = None
    next_try: Timestamp | None = None


@dataclass(frozen=True)
class FormerRegistration:
    """When a node of this site was last let in, and until when it was seen to be."""

    node_id: int
    since: Timestamp
    until: Timestamp


@dataclass(frozen=True)
class StatusPage:
    """The page. started, ended: of the client; ended is None while it runs, or where it was killed.

    start_id: of this start, as the lock's file has it.
    """

    site: str
    process: int
    started: Timestamp
    ended: Timestamp | None = None
    why_ended: str | None = None
    address: str | None = None
    federation: str | None = None
    registration: Registration | None = None
    former: FormerRegistration | None = None
    checked: Timestamp | None = None
    findings: tuple[Finding, ...] = field(default=())
    start_id: str = ""


@contextlib.contextmanager
def client_lock(folder: Path, *, beside: Sequence[Path] = ()) -> Iterator[None]:
    """Be the one client of this folder while the context lasts.

    beside: folders that no client may be in either. Raises SiteAlreadyRunning (FM-S522) where another process is.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        taken = [folder] if not locked_within(descriptor, LOCK_PATIENCE_S) else []
        taken += [other for other in beside if client_runs(other)]
        if taken:
            raise SiteAlreadyRunning(
                "this site's client runs already",
                got=taken[0],
                action="See `fedminet site status`; end it before you start another",
            )
        with contextlib.suppress(OSError):  # a full disk: the page cannot be written either
            os.pwrite(descriptor, uuid.uuid4().hex.encode(), 0)
        yield
    finally:
        let_go(descriptor)


def client_runs(folder: Path) -> bool:
    """Whether a living process is the client of this folder."""
    return is_locked(folder / LOCK_FILE)


def last_start_id(folder: Path) -> str:
    """The id of the start that took the lock last; empty before the first."""
    try:
        return (folder / LOCK_FILE).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


@contextlib.contextmanager
def status_writer(folder: Path, *, site: str) -> Iterator[StatusWriter]:
    """The page of a client that lives as long as the context, and how it ended. To be entered within `client_lock`."""
    page = StatusWriter(folder, site=site)
    try:
        yield page
    except BaseException as failure:
        page.ended(str(failure) if isinstance(failure, FedminetError) else _ENDED_BY.get(type(failure), ""))
        raise


def read_page(folder: Path) -> tuple[StatusPage, float] | None:
    """The page, and when its client last looked after itself; None where no client ever started."""
    path = folder / STATUS_FILE
    try:
        return read_typed(path, StatusPage), path.stat().st_mtime
    except (OSError, ValueError):
        return None


class StatusWriter:
    """Keeps the page true while the client runs. A full disk does not end the client: the page then grows old."""

    def __init__(self, folder: Path, *, site: str) -> None:
        former = read_page(folder)
        self._path = folder / STATUS_FILE
        self._page = StatusPage(site, os.getpid(), time.time(), start_id=last_start_id(folder))
        self._looked = time.monotonic()
        if former is not None:
            self._page = replace(self._page, former=last_registration(*former))
        self._write()

    def record_findings(self, findings: Sequence[Finding], *, kit: Path) -> None:
        """The checks have been made."""
        address, federation = _names_in(kit)
        self._page = replace(
            self._page,
            checked=time.time(),
            findings=tuple(findings),
            address=address,
            federation=federation,
        )
        self._write()

    def record_registration(self, registration: Registration) -> None:
        """How the node stands; `since` counts where something has changed."""
        present = self._page.registration
        if present is not None and _same_state(registration, present):
            registration = replace(registration, since=present.since)
        if registration == present:
            self.heartbeat()
            return
        former = last_registration(self._page, time.time())
        self._page = replace(self._page, registration=registration, former=former)
        self._write()

    def heartbeat(self) -> None:
        """The client looks after itself, and nothing has changed."""
        if time.monotonic() - self._looked >= LOOK_INTERVAL_S:
            self._looked = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def ended(self, why: str) -> None:
        """The client ends."""
        former = last_registration(self._page, time.time())
        self._page = replace(self._page, ended=time.time(), why_ended=why, registration=None, former=former)
        self._write()

    def _write(self) -> None:
        self._looked = time.monotonic()
        with contextlib.suppress(FileNotWritten):
            write_json(self._path, asdict(self._page))


def last_registration(page: StatusPage, looked: float) -> FormerRegistration | None:
    """When the node was last let in. looked: until when it was seen to be, if the page says that it is."""
    present = page.registration
    if present is not None and present.registered and present.node_id is not None:
        return FormerRegistration(present.node_id, present.since, looked)
    return page.former


def _names_in(kit: Path) -> tuple[str | None, str | None]:
    """Address and federation that a kit names; for display, held to nothing."""
    try:
        content = parse_json((kit / "kit.json").read_bytes())
        return str(content["address"]), str(content["federation"])
    except (OSError, *NOT_AS_WRITTEN):
        return None, None


def _same_state(one: Registration, other: Registration) -> bool:
    """Whether both say the same of the node; when it is tried again aside."""
    return replace(one, since=0.0, next_try=None) == replace(other, since=0.0, next_try=None)
