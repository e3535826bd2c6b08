"""Login, and what a coordinator who is logged in may do: stop a run, resume one. Nothing here without --allow-control.

The functions are those of `fedminet server stop` and `fedminet server run --resume`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from minet_core.errors import FedminetError
from minet_core.protocol.messages import RUN_NAME
from server.dashboard.guard import host_name, is_loopback
from server.dashboard.password import Password
from server.dashboard.rendering import Reader, control_page, login_page
from server.dashboard.run_reader import Runs
from server.dashboard.sessions import MAX_DURATION_S, Attempts, Session, Sessions, csrf_matches
from server.runs.follow import resume_run, stop_run
from server.server_home import ServerHome

MAX_BODY_BYTES = 8192
READ_ONLY = "This screen only reads: it was started without --allow-control."

_LOG = logging.getLogger(__name__)


@dataclass
class Access:
    """Who may control: the password, the sessions, and the attempts to begin one."""

    password: Password
    sessions: Sessions = field(default_factory=Sessions)
    attempts: Attempts = field(default_factory=Attempts)

    def session(self, request: Request) -> Session | None:
        """The session that a request's cookie names."""
        token = request.cookies.get(_cookie_name(request))
        return self.sessions.find(token, password=self.password.kept()) if token else None


def reader_of(request: Request, access: Access | None) -> Reader:
    """Who looks."""
    if access is None:
        return Reader()
    session = access.session(request)
    return Reader(may_control=True, logged_in=session is not None, csrf=session.csrf if session else "")


def add_control(app: FastAPI, home: ServerHome, runs: Runs, access: Access | None) -> None:
    """Add the login and the routes that change something; where `access` is None each of them refuses."""
    _add_login(app, access)

    @app.get("/runs/{name}/control", response_class=HTMLResponse)
    def control(name: str, request: Request) -> Response:
        view = runs.reader(name).view()
        reader = reader_of(request, _required(access))
        if not reader.logged_in:
            return RedirectResponse(f"/login?run={name}", status_code=303)
        return HTMLResponse(control_page(view, reader))

    @app.post("/runs/{name}/stop")
    async def stop(name: str, request: Request) -> Response:
        form = await _controlling(request, access)
        if form.get("sure") != "yes":
            return await answer(name, request, failure="The run goes on: the box was not ticked.", status=400)
        return await acted(name, request, resume=False)

    @app.post("/runs/{name}/resume")
    async def resume(name: str, request: Request) -> Response:
        await _controlling(request, access)
        return await acted(name, request, resume=True)

    async def acted(name: str, request: Request, *, resume: bool) -> Response:
        runs.reader(name)  # a name that is none is refused before anything is done
        client = request.client.host if request.client else "unknown"
        _LOG.info("%s of %s asked for at the screen, from %s", "resume" if resume else "stop", name, client)
        try:
            await run_in_threadpool(resume_run if resume else stop_run, home, name)
        except FedminetError as failure:
            return await answer(name, request, failure=str(failure), status=409)
        done = "The run is with the server." if resume else "The run is stopped."
        return await answer(name, request, done=done)

    async def answer(
        name: str, request: Request, *, failure: str | None = None, done: str | None = None, status: int = 200
    ) -> Response:
        view = await run_in_threadpool(runs.reader(name).view)
        page = control_page(view, reader_of(request, access), failure=failure, done=done)
        return HTMLResponse(page, status_code=status)


def _add_login(app: FastAPI, access: Access | None) -> None:
    @app.get("/login", response_class=HTMLResponse)
    def ask(request: Request, run: str = "") -> str:
        return login_page(reader_of(request, _required(access)), run=_plain(run))

    @app.post("/login")
    async def log_in(request: Request) -> Response:
        known, form = _required(access), await _form(request)
        run = _plain(form.get("run", ""))
        wait_s = known.attempts.take()
        if wait_s > 0:
            page = login_page(
                Reader(may_control=True), run=run, failure="Too many attempts: wait some minutes."
            )
            return HTMLResponse(page, status_code=429, headers={"retry-after": str(int(wait_s) + 1)})
        kept = known.password.kept()
        if not await run_in_threadpool(known.password.matches, form.get("password", "")):
            page = login_page(Reader(may_control=True), run=run, failure="That is not the password.")
            return HTMLResponse(page, status_code=401)
        known.attempts.forgive()
        known.sessions.end(request.cookies.get(_cookie_name(request)))
        answer = RedirectResponse(f"/runs/{run}/control" if run else "/runs", status_code=303)
        answer.set_cookie(
            _cookie_name(request),
            known.sessions.begin(password=kept),
            max_age=int(MAX_DURATION_S),
            path="/",
            secure=_needs_secure(request),
            httponly=True,
            samesite="strict",
        )
        return answer

    @app.post("/logout")
    async def log_out(request: Request) -> Response:
        await _controlling(request, access)
        _required(access).sessions.end(request.cookies.get(_cookie_name(request)))
        answer = RedirectResponse("/runs", status_code=303)
        answer.delete_cookie(
            _cookie_name(request), path="/", secure=_needs_secure(request), httponly=True, samesite="strict"
        )
        return answer


async def _controlling(request: Request, access: Access | None) -> dict[str, str]:
    """The form of a request that may control. 403 where nobody may, or where its token is wrong; 401 without login."""
    known = _required(access)
    session = known.session(request)
    if session is None:
        raise HTTPException(401, "Log in first.")
    form = await _form(request)
    if not csrf_matches(session, form.get("csrf", "")):
        raise HTTPException(403, "The form is of another session: open the page again.")
    return form


def _required(access: Access | None) -> Access:
    if access is None:
        raise HTTPException(403, READ_ONLY)
    return access


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, each once. 413 for one that is larger than any of ours."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, "The form is too large.")
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=8)
    except ValueError as failure:
        raise HTTPException(400, "The form cannot be read.") from failure
    return {name: values[0] for name, values in fields.items()}


def _plain(run: str) -> str:
    """A run's name, or nothing: what follows a login leads to no other place."""
    return run if RUN_NAME.fullmatch(run) else ""


def _needs_secure(request: Request) -> bool:
    """Whether the cookie may travel by HTTPS alone: everywhere but on this machine."""
    return not is_loopback(host_name(request.headers.get("host", "")))


def _cookie_name(request: Request) -> str:
    """The prefix makes a browser insist on HTTPS, this host and the path /."""
    return "__Host-fedminet" if _needs_secure(request) else "fedminet"
