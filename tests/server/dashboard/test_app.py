"""The coordinator's screen says what a run's folder holds, to readers who may not do anything, and shows no scan."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from minet_core.runtime.files.atomic_write import write_text
from server.dashboard.app import build_app
from server.dashboard.run_reader import Runs
from server.runs import state_machine
from server.server_home import ServerHome
from tests.support.screen import SITES, Behaviour, conduct, conducting, created, made_home, served, wait_until

HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ServerHome:
    """A coordinator with one run of each ending."""
    home = made_home(tmp_path_factory.mktemp("screen"))
    conduct(created(home, "whole", rounds=4))
    contract = {"quorum": 2, "deadline_s": 1.0, "retries": 0}
    conduct(created(home, "short", rounds=3, participation=contract), Behaviour(fails={"umr": (2,)}))
    strict = {"quorum": 3, "deadline_s": 1.0, "retries": 0}
    conduct(
        created(home, "ended", rounds=3, participation=strict),
        Behaviour(silent=frozenset({"fastmri"})),
    )
    created(home, "waits", rounds=5)
    return home


@pytest.fixture(scope="module")
def client(home: ServerHome) -> Iterator[httpx.Client]:
    with served(home) as client:
        yield client


def page(client: httpx.Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_completed_run_is_told_with_its_rounds_figures_and_tests(client: httpx.Client) -> None:
    text = page(client, "/runs/whole")
    assert "4</b> of 4 rounds completed" in text
    assert "Every declared round aggregated the replies it needed." in text
    assert all(site in text for site in SITES)
    samples = text.count('<polyline points="0,6 34,6"/>')
    assert samples == 3, "one for each site in the legend"
    assert text.count("<polyline") - samples == 6, "three sites, PSNR and loss"
    assert "Tests of the final model" in text
    assert "None: every reply so far came and was accepted." in text


def test_a_partial_run_says_which_reply_was_refused_and_why(client: httpx.Client) -> None:
    text = page(client, "/runs/short")
    assert "A declared participation was not met in some round." in text
    assert "round 2 without umr" in text
    assert "FM-D207" in text
    assert "does not match the digest in its cohort" in text
    assert "2 of 3 rounds; refused in 1" in text
    assert "/data/patients" not in text, "a site's text never comes so far"


def test_a_failed_run_says_that_its_silent_site_was_never_seen(client: httpx.Client) -> None:
    text = page(client, "/runs/ended")
    assert "The run ended without a global model that can be relied on." in text
    assert "FM-F402" in text
    assert "FM-F405" in text
    assert "No reply." in text


def test_a_run_that_has_not_begun_claims_nothing(client: httpx.Client) -> None:
    text = page(client, "/runs/waits")
    assert "no server application has taken it up yet" in text
    assert "not known" in text
    assert "there is nothing to draw" in text
    assert text.count("never in this run") == 3
    assert "the SuperLink does not answer" in text


def test_the_newest_run_is_shown_first_and_every_run_is_listed(client: httpx.Client) -> None:
    assert '<h1><span class="kicker">Run</span> waits</h1>' in page(client, "/")
    listed = re.findall(r'<h2><a href="/runs/([^"]+)"', page(client, "/runs"))
    assert listed == ["waits", "ended", "short", "whole"]


def test_a_coordinator_without_runs_is_told_how_one_starts(tmp_path: Path) -> None:
    with served(made_home(tmp_path)) as client:
        assert "There is no run yet" in page(client, "/")


def test_a_damaged_run_is_named_and_does_not_hide_the_others(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    created(home, "sound")
    write_text(created(home, "broken").path / "state.json", '{"status": "run')
    write_text(created(home, "odd").path / "metrics.jsonl", '{"no": "round"}\n')
    with served(home) as client:
        assert "unreadable" in page(client, "/runs")
        assert "sound" in page(client, "/runs")
        for name in ("broken", "odd"):
            answer = client.get(f"/runs/{name}")
            assert answer.status_code == 500
            assert "FM-S500: the run&#39;s folder cannot be read" in answer.text
            assert str(home.path) not in answer.text


def test_a_run_marked_as_running_on_which_nobody_works_is_said_so(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    run = created(home, "orphan")
    run.transition(state_machine.begun)
    with served(home) as client:
        assert "no server application works on it at this moment" in page(client, "/runs/orphan")
        with run.locked(holder=1):
            run.event("run-started", sites=list(SITES), rounds=2)
            assert "waits for its sites to be online" in page(client, "/runs/orphan")


def test_html_in_a_reason_or_a_sites_name_is_text(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    run = created(home, "hostile")
    run.event("reply-refused", round=1, site=HOSTILE, code=HOSTILE, reason=HOSTILE)
    run.event("sites-online", sites=[HOSTILE])
    run.event(HOSTILE, round=HOSTILE)
    run.transition(state_machine.begun)
    run.transition(state_machine.interrupted, HOSTILE)
    with served(home) as client:
        for text in (page(client, "/runs/hostile"), "".join(first_view(client, "hostile").values())):
            assert "<script>alert" not in text
            assert "<img" not in text
            assert text.count("&lt;script&gt;alert(1)") >= 4


@pytest.mark.parametrize(
    "path",
    [
        "/runs/..%2f..%2fpki",
        "/runs/%2e%2e/stream",
        "/runs/../server.yaml",
        "/runs/.hidden",
        "/runs/a%00b",
        "/static/..%2fapp.py",
        "/static/../password.py",
        "/static/%2e%2e%2f__init__.py",
    ],
)
def test_a_path_that_leads_elsewhere_finds_nothing(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "BEGIN" not in answer.text
    assert "import" not in answer.text


def test_no_route_gives_a_file_of_the_run(home: ServerHome, client: httpx.Client) -> None:
    run = home.runs / "whole"
    files = [path.relative_to(home.runs).as_posix() for path in run.rglob("*") if path.is_file()]
    assert any(name.endswith(".safetensors") for name in files)
    for name in files:
        assert client.get(f"/runs/{name}").status_code == 404
    paths = {route.path for route in build_app(home).routes}  # type: ignore[attr-defined]
    assert paths == {
        "/",
        "/runs",
        "/runs/{name}",
        "/runs/{name}/stream",
        "/runs/{name}/rounds.csv",
        "/runs/{name}/control",
        "/runs/{name}/stop",
        "/runs/{name}/resume",
        "/login",
        "/logout",
        "/metrics",
        "/health",
        "/static/{name}",
    }


def test_nothing_that_is_served_is_an_image_but_the_icon(client: httpx.Client) -> None:
    for path in ("/", "/runs", "/runs/whole", "/runs/whole/rounds.csv", "/metrics", "/static/dashboard.css"):
        answer = client.get(path)
        assert not answer.headers["content-type"].startswith("image/")
        assert "data:image" not in answer.text
        assert "<img" not in answer.text
    assert client.get("/static/icon.svg").headers["content-type"] == "image/svg+xml"


def test_every_answer_forbids_what_comes_from_elsewhere_and_sets_no_cookie(client: httpx.Client) -> None:
    for path in ("/", "/runs/none", "/metrics", "/static/dashboard.js", "/login"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "set-cookie" not in headers
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


def test_a_page_holds_no_address_of_another_host_and_no_inline_script_or_style(client: httpx.Client) -> None:
    text = page(client, "/runs/whole")
    assert not re.findall(r'(?:src|href|action)="(?!/|#)', text)
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style", text)
    assert re.findall(r"<script[^>]*>", text) == ['<script src="/static/dashboard.js" defer>']


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:9480", 200),
        ("[::1]:9480", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("localhost@attacker.example", 421),
        ("attacker.example:80@localhost", 421),
        ("", 421),
    ],
)
def test_a_request_for_another_host_is_refused(client: httpx.Client, host: str, status: int) -> None:
    assert client.get("/health", headers={"host": host}).status_code == status


def test_a_proxys_name_is_answered_where_it_was_given(tmp_path: Path) -> None:
    with served(made_home(tmp_path), hosts=("Dashboard.Example.org",)) as client:
        assert client.get("/health", headers={"host": "dashboard.example.org"}).status_code == 200
        assert client.get("/health", headers={"host": "other.example.org"}).status_code == 421


def test_the_rounds_are_given_as_a_table(client: httpx.Client) -> None:
    lines = client.get("/runs/short/rounds.csv").text.splitlines()
    assert len(lines) == 1 + 3 * 3
    assert [line.split(",")[2:5] for line in lines[4:7]] == [
        ["sms", "counted", ""],
        ["umr", "refused", "FM-D207"],
        ["fastmri", "counted", ""],
    ]


def test_a_stream_tells_a_running_run_and_goes_on_where_it_broke(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    run, is_watched_again = created(home, "live", rounds=4), threading.Event()

    def has_begun(_found: list[dict[str, str]]) -> bool:
        is_watched_again.set()
        return False

    with served(home) as client, conducting(run, Behaviour(pace_s=0.15, held={3: is_watched_again})):
        wait_until(lambda: run.state.round >= 1)
        first = read_stream(client, "/runs/live/stream", until=lambda found: len(found) > 6)
        broke_at = int(first[-1]["id"])
        rest = read_stream(client, "/runs/live/stream", last=broke_at, until=has_begun)
    told = [message for message in rest if message["event"] == "happened"]
    assert [int(message["id"]) for message in told] == list(
        range(broke_at + 1, len(run.events_recorded()) + 1)
    )
    assert rest[-1]["event"] == "end"
    views = [json.loads(message["data"]) for message in rest if message["event"] == "view"]
    assert "completed, 4 of 4 rounds" in views[-1]["title"]
    assert any("4</b> of 4 rounds completed" in view["sections"].get("status", "") for view in views)
    assert len(views[-1]["sections"]) < 6, "what has not changed is not sent again"


def test_open_pages_are_bounded_and_one_that_is_closed_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.dashboard.app.MAX_STREAMS", 1)
    home = made_home(tmp_path)
    created(home, "waits")
    with served(home) as client:
        with client.stream("GET", "/runs/waits/stream") as first:
            lines = first.iter_lines()  # kept: one that is forgotten closes its connection
            assert next(lines).startswith("retry: ")
            with client.stream("GET", "/runs/waits/stream") as second:
                assert second.status_code == 503
            assert client.get("/runs/waits").status_code == 200, "the page itself is still given"

        def has_room() -> bool:
            with client.stream("GET", "/runs/waits/stream") as answer:
                return answer.status_code == 200

        wait_until(has_room)


def test_a_line_that_is_half_written_waits_for_its_other_half(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    run = created(home, "half")
    run.event("run-started", sites=list(SITES), rounds=2)
    reader = Runs(home.runs).reader("half")
    assert len(reader.view().events) == 1
    with (run.path / "events.jsonl").open("a") as stream:
        stream.write('{"time":"2030-01-01T00:00:00+00:00","event":"sites-')
        stream.flush()
        assert len(reader.view().events) == 1
        stream.write('online","sites":["sms"]}\n')
    assert [event["event"] for event in reader.view().events] == ["run-started", "sites-online"]
    run.repair_after_crash()
    assert len(reader.view().events) == 2


def test_a_run_whose_folder_was_removed_is_no_longer_there(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    run = created(home, "gone")
    with served(home) as client:
        assert client.get("/runs/gone").status_code == 200
        shutil.rmtree(run.path)
        assert client.get("/runs/gone").status_code == 404


def first_view(client: httpx.Client, name: str) -> dict[str, str]:
    messages = read_stream(client, f"/runs/{name}/stream", until=lambda found: found[-1]["event"] == "view")
    sections = json.loads(messages[-1]["data"])["sections"]
    assert isinstance(sections, dict)
    return sections


def read_stream(
    client: httpx.Client, path: str, *, last: int | None = None, until: object = None
) -> list[dict[str, str]]:
    """The messages of a stream to its end, or until the condition holds."""
    found: list[dict[str, str]] = []
    headers = {} if last is None else {"last-event-id": str(last)}
    with client.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        message: dict[str, str] = {}
        for line in answer.iter_lines():
            if line and not line.startswith(":"):
                key, _, value = line.partition(": ")
                message[key] = value
            elif "event" in message:
                found.append(message)
                message = {}
                if callable(until) and until(found):
                    break
            else:
                message = {}
    return found
