"""Nobody stops a run at the screen who is not logged in, and nobody is logged in by accident."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from minet_core.errors import FileMissing, InvalidSetting
from server.dashboard.control_routes import Access
from server.dashboard.password import Password, set_password
from server.dashboard.sessions import (
    ATTEMPTS_WITHIN_S,
    IDLE_S,
    MAX_ATTEMPTS,
    MAX_DURATION_S,
    MAX_SESSIONS,
    Attempts,
    Sessions,
)
from server.server_home import ServerHome
from tests.support.screen import Behaviour, conducting, created, made_home, served, wait_until

PASSWORD = "a horse, a battery and a staple"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ServerHome:
    """A coordinator with a password: an authority and two slow hashes, made once."""
    home = made_home(tmp_path_factory.mktemp("made"))
    set_password(home, PASSWORD)
    return home


@pytest.fixture
def home(tmp_path: Path, made: ServerHome) -> ServerHome:
    return ServerHome(shutil.copytree(made.path, tmp_path / "coordinator"))


@pytest.fixture
def client(home: ServerHome) -> Iterator[httpx.Client]:
    with served(home, access=Access(Password.of(home))) as client:
        yield client


def log_in(client: httpx.Client, password: str = PASSWORD, *, run: str = "") -> httpx.Response:
    return client.post("/login", data={"password": password, "run": run})


def csrf(client: httpx.Client, run: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get(f"/runs/{run}/control").text)
    assert found is not None
    return found.group(1)


def test_without_login_a_run_is_not_stopped_and_goes_on(home: ServerHome, client: httpx.Client) -> None:
    run = created(home, "going", rounds=3)
    with conducting(run, Behaviour(pace_s=0.1)):
        wait_until(lambda: run.state.round >= 1)
        for what in ("stop", "resume"):
            answer = client.post(f"/runs/going/{what}", data={"sure": "yes", "csrf": ""})
            assert answer.status_code == 401
        assert client.get("/runs/going/control").headers["location"] == "/login?run=going"
    assert run.state.status == "completed"


def test_a_screen_that_only_reads_has_no_login_and_no_control(home: ServerHome) -> None:
    run = created(home, "read")
    with served(home) as client:
        assert "This screen only reads" in client.get("/runs/read").text
        assert "Stop or resume" not in client.get("/runs/read").text
        for path in ("/runs/read/stop", "/runs/read/resume", "/login", "/logout"):
            assert client.post(path, data={"password": PASSWORD, "sure": "yes"}).status_code == 403
        assert client.get("/login").status_code == 403
    assert run.state.status == "created"


def test_who_is_logged_in_stops_a_run_and_what_it_completed_is_kept(
    home: ServerHome, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "server")
    run = created(home, "long", rounds=6000)
    with conducting(run, Behaviour(pace_s=0.05)):
        wait_until(lambda: run.state.round >= 1)
        assert log_in(client, run="long").headers["location"] == "/runs/long/control"
        answer = client.post("/runs/long/stop", data={"sure": "yes", "csrf": csrf(client, "long")})
        assert answer.status_code == 200
        assert "The run is stopped." in answer.text
    assert (run.state.status, run.state.reason) == ("failed", "stopped by the coordinator")
    assert 1 <= run.state.round < 6000
    assert "Reason: stopped by the coordinator" in client.get("/runs/long").text
    assert "stop of long asked for at the screen, from 127.0.0.1" in caplog.messages


def test_a_form_without_the_sessions_token_is_refused(home: ServerHome, client: httpx.Client) -> None:
    run = created(home, "kept")
    log_in(client)
    right = csrf(client, "kept")
    for wrong in ("", "x" * len(right), right[:-1], right + "x", "\u00e9"):
        answer = client.post("/runs/kept/stop", data={"sure": "yes", "csrf": wrong})
        assert answer.status_code == 403
    assert run.state.status == "created"
    assert client.post("/runs/kept/stop", data={"csrf": right}).status_code == 400, "the box was not ticked"
    assert run.state.status == "created"
    assert client.post("/runs/kept/stop", data={"csrf": right, "sure": "yes"}).status_code == 200
    assert run.state.status == "failed"


def test_the_token_of_another_session_is_refused(home: ServerHome, client: httpx.Client) -> None:
    created(home, "kept")
    log_in(client)
    other = csrf(client, "kept")
    client.cookies.clear()
    log_in(client)
    assert csrf(client, "kept") != other
    assert client.post("/runs/kept/stop", data={"sure": "yes", "csrf": other}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_request_from_a_page_elsewhere_changes_nothing(
    home: ServerHome, client: httpx.Client, headers: dict[str, str]
) -> None:
    run = created(home, "kept")
    log_in(client)
    form = {"sure": "yes", "csrf": csrf(client, "kept")}
    assert client.post("/runs/kept/stop", data=form, headers=headers).status_code == 403
    assert client.post("/login", data={"password": PASSWORD}, headers=headers).status_code == 403
    assert run.state.status == "created"


def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_plain_http(home: ServerHome) -> None:
    with served(home, access=Access(Password.of(home)), hosts=("screen.example.org",)) as client:
        here = log_in(client).headers["set-cookie"].lower()
        assert "httponly" in here
        assert "samesite=strict" in here
        assert "secure" not in here, "this machine has no TLS, and none is needed"
        far = client.post("/login", data={"password": PASSWORD}, headers={"host": "screen.example.org"})
        cookie = far.headers["set-cookie"]
        assert cookie.startswith("__Host-fedminet=")
        assert {"secure", "httponly", "samesite=strict", "path=/"} <= {
            part.strip().lower() for part in cookie.split(";")
        }


def test_guessing_is_slowed_down_and_the_right_password_waits_too(client: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: log_in(client, f"guess {number}"), range(3 * MAX_ATTEMPTS)))
    assert sorted(answer.status_code for answer in answers) == [401] * MAX_ATTEMPTS + [429] * (
        2 * MAX_ATTEMPTS
    )
    refused = log_in(client)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= ATTEMPTS_WITHIN_S + 1
    assert "set-cookie" not in refused.headers


def test_after_the_window_a_guess_may_be_made_again() -> None:
    clock = [0.0]
    attempts = Attempts(now=lambda: clock[0])
    assert [attempts.take() for _ in range(MAX_ATTEMPTS)] == [0.0] * MAX_ATTEMPTS
    assert attempts.take() == ATTEMPTS_WITHIN_S
    clock[0] = ATTEMPTS_WITHIN_S + 1
    assert attempts.take() == 0.0


def test_a_session_ends_when_it_is_not_used_and_after_its_longest_time() -> None:
    clock = [0.0]
    sessions = Sessions(now=lambda: clock[0])
    idle = sessions.begin(password="hash")
    clock[0] = IDLE_S + 1
    assert sessions.find(idle, password="hash") is None
    busy, began = sessions.begin(password="hash"), clock[0]
    while clock[0] + IDLE_S - 1 < began + MAX_DURATION_S:
        clock[0] += IDLE_S - 1
        assert sessions.find(busy, password="hash") is not None
    clock[0] = began + MAX_DURATION_S + 1
    assert sessions.find(busy, password="hash") is None


def test_the_sessions_that_are_kept_are_bounded() -> None:
    sessions = Sessions()
    tokens = [sessions.begin(password="hash") for _ in range(MAX_SESSIONS + 5)]
    held = [token for token in tokens if sessions.find(token, password="hash") is not None]
    assert len(held) == MAX_SESSIONS
    assert tokens[-1] in held


def test_a_new_password_ends_the_sessions_of_the_former(home: ServerHome, client: httpx.Client) -> None:
    created(home, "kept")
    log_in(client)
    assert client.get("/runs/kept/control").status_code == 200
    set_password(home, "another password, as long")
    assert client.get("/runs/kept/control").status_code == 303
    assert log_in(client).status_code == 401
    assert log_in(client, "another password, as long").status_code == 303


def test_logging_out_ends_the_session_for_whoever_has_its_cookie(
    home: ServerHome, client: httpx.Client
) -> None:
    created(home, "kept")
    log_in(client)
    kept = dict(client.cookies)
    assert client.post("/logout", data={"csrf": csrf(client, "kept")}).status_code == 303
    client.cookies.update(kept)
    assert client.get("/runs/kept/control").status_code == 303


def test_what_follows_a_login_leads_nowhere_else(client: httpx.Client) -> None:
    for run in ("//attacker.example", "../..", "https://attacker.example", ""):
        assert log_in(client, run=run).headers["location"] == "/runs"


def test_a_form_larger_than_any_of_ours_is_refused(client: httpx.Client) -> None:
    assert log_in(client, "x" * 20_000).status_code == 413


def test_a_run_is_not_resumed_without_its_server_and_the_reason_is_said(
    home: ServerHome, client: httpx.Client
) -> None:
    created(home, "waits")
    log_in(client)
    answer = client.post("/runs/waits/resume", data={"csrf": csrf(client, "waits")})
    assert answer.status_code == 409
    assert "FM-S502" in answer.text
    assert client.post("/runs/none/resume", data={"csrf": csrf(client, "waits")}).status_code == 404


def test_the_passwords_hash_is_its_owners_alone_and_holds_no_password(home: ServerHome) -> None:
    path = set_password(home, PASSWORD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_text()
    assert content.startswith("$argon2id$")
    assert PASSWORD not in content
    assert Password(path).matches(PASSWORD)
    assert not Password(path).matches(PASSWORD + " ")


def test_without_a_password_control_is_refused_and_a_damaged_file_matches_nothing(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    with pytest.raises(FileMissing, match="dashboard-password"):
        Password.of(home)
    with pytest.raises(InvalidSetting, match="FM-C102"):
        set_password(home, "short")
    path = set_password(home, PASSWORD)
    path.write_text("")
    assert not Password(path).matches("")
    path.unlink()
    assert not Password(path).matches("")
