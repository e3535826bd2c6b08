"""The screen's routes that read. There is none for a checkpoint, a reply, a file of a run's folder or an image of a
scan: what is served is made from the records, and three files of this package.
"""

from __future__ import annotations

import contextlib
import csv
import io
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from importlib.resources import files

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from minet_core.errors import FedminetError, FileMissing
from minet_core.runtime.said_elsewhere import said_elsewhere
from server.dashboard.control_routes import Access, add_control, reader_of
from server.dashboard.guard import LOOPBACK_NAMES, Guard
from server.dashboard.live import LivePage, stream
from server.dashboard.metrics import CoordinatorCollector, exposition
from server.dashboard.node_presence import NodePresence
from server.dashboard.rendering import Reader, message_page, run_page, runs_page
from server.dashboard.run_reader import Runs
from server.dashboard.run_view import RunView
from server.server_home import ServerHome

MAX_STREAMS = 64
"""Open pages at a time; one more works without live updates and tries again."""

STATIC = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass
class Screen:
    """What the routes share."""

    runs: Runs
    sightings: NodePresence
    may_control: bool
    n_streams: int = 0
    _pages: dict[str, LivePage] = field(default_factory=dict)
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def page(self, name: str) -> LivePage:
        """The live page of a run. Raises FileMissing (FM-C103)."""
        reader = self.runs.reader(name)
        with self._alone:
            if name not in self._pages:
                self._pages[name] = LivePage(reader, self.sightings, self.may_control)
            return self._pages[name]


def build_app(
    home: ServerHome,
    *,
    hosts: Collection[str] = (),
    access: Access | None = None,
    files_only: bool = False,
    closing: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """The screen of the coordinator at `home`.

    hosts: further names that it is reached by. access: the login; None for a screen that only reads. files_only: the
    SuperLink is not asked, what the server wrote down is read. closing: whether the server is about to end, which ends
    the open streams.
    """
    sightings = NodePresence.from_files(home) if files_only else NodePresence.of(home)
    screen = Screen(Runs(home.runs), sightings, may_control=access is not None)
    registry = CollectorRegistry()
    registry.register(CoordinatorCollector(home, screen.runs, screen.sightings))
    app = FastAPI(title="fedminet", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, hosts=frozenset({*LOOPBACK_NAMES, *(host.lower() for host in hosts)}))
    _add_pages(app, screen, access)
    _add_data(app, screen, registry, closing=closing)
    add_control(app, home, screen.runs, access)
    _add_failures(app, access)
    return app


def _add_pages(app: FastAPI, screen: Screen, access: Access | None) -> None:
    @app.get("/", response_class=HTMLResponse)
    def newest(request: Request) -> str:
        entries = screen.runs.entries()
        readable = [entry.name for entry in entries if entry.status != "unreadable"]
        if not readable:
            return runs_page(entries, reader_of(request, access))
        return _run(readable[0], request)

    @app.get("/runs", response_class=HTMLResponse)
    def every(request: Request) -> str:
        return runs_page(screen.runs.entries(), reader_of(request, access))

    @app.get("/runs/{name}", response_class=HTMLResponse)
    def one(name: str, request: Request) -> str:
        return _run(name, request)

    def _run(name: str, request: Request) -> str:
        view, sections = screen.page(name).shown()
        return run_page(view, sections, screen.runs.entries(), reader_of(request, access))


def _add_data(
    app: FastAPI, screen: Screen, registry: CollectorRegistry, *, closing: Callable[[], bool]
) -> None:
    @app.get("/runs/{name}/stream")
    async def live(name: str, request: Request, after: int = 0) -> Response:
        page = screen.page(name)
        if screen.n_streams >= MAX_STREAMS:
            return PlainTextResponse("Too many open pages.\n", status_code=503, headers={"retry-after": "30"})
        last = request.headers.get("last-event-id", "")
        begin = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else max(after, 0)
        return StreamingResponse(
            counted(stream(page, after=begin, closing=closing)),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def counted(messages: AsyncGenerator[str]) -> AsyncIterator[str]:
        screen.n_streams += 1
        try:
            async with contextlib.aclosing(messages):
                async for message in messages:
                    yield message
        finally:
            screen.n_streams -= 1

    @app.get("/runs/{name}/rounds.csv")
    def rounds(name: str) -> Response:
        view = screen.runs.reader(name).view()
        disposition = f'attachment; filename="{view.name}-rounds.csv"'
        return Response(
            _rounds_csv(view),
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": disposition},
        )

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        content, content_type = exposition(registry, request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    @app.get("/health", response_class=PlainTextResponse)
    def health() -> str:
        return "ok\n"

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404)
        content = (files("server.dashboard") / "static" / name).read_bytes()
        return Response(content, headers={"content-type": STATIC[name], "cache-control": "no-cache"})


def _add_failures(app: FastAPI, access: Access | None) -> None:
    @app.exception_handler(FedminetError)
    def failed(request: Request, failure: FedminetError) -> HTMLResponse:
        """What failed, without what was got: that may be a path of the coordinator's."""
        reader = reader_of(request, access)
        if isinstance(failure, FileMissing):
            return HTMLResponse(
                message_page(reader, title="Not here", text="There is no run of this name."), status_code=404
            )
        text = f"{said_elsewhere(failure)}."
        return HTMLResponse(message_page(reader, title="Not readable", text=text), status_code=500)

    @app.exception_handler(HTTPException)
    def refused(_request: Request, failure: HTTPException) -> HTMLResponse:
        titles = {404: "Not here", 405: "Not possible"}
        title = titles.get(failure.status_code, "Refused")
        page = message_page(Reader(), title=title, text=str(failure.detail))
        return HTMLResponse(page, status_code=failure.status_code, headers=dict(failure.headers or {}))


def _rounds_csv(view: RunView) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        [
            "round",
            "seconds",
            "site",
            "outcome",
            "code",
            "psnr_db",
            "ssim",
            "train_loss",
            "bytes_up",
            "bytes_down",
        ]
    )
    for index, record in enumerate(view.rounds):
        for site in view.sites:
            figures, entry = site.rounds[index], record["sites"].get(site.name, {})
            writer.writerow(
                [
                    record["round"],
                    f"{record['seconds']:.3f}",
                    site.name,
                    figures.outcome,
                    entry.get("refused") or "",
                    *(
                        "" if value is None else value
                        for value in (figures.psnr_db, figures.ssim, figures.train_loss)
                    ),
                    entry.get("bytes_up", 0),
                    entry.get("bytes_down", 0),
                ]
            )
    return text.getvalue()
