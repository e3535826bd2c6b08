"""What the screen works out from a run's records: the time left, what a site did, and how a curve is drawn."""

from __future__ import annotations

import datetime
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minet_core.errors import InvalidSetting
from server.dashboard import node_presence
from server.dashboard.curves import BOTTOM, HEIGHT, LEFT, MAX_MARKERS, MAX_POINTS, RIGHT, TOP, WIDTH, curves
from server.dashboard.node_presence import NodePresence, Sighting
from server.dashboard.run_view import Figures, SiteView, time_left
from server.dashboard.serve import binding_of
from server.dashboard.wording import left_words, participation_words, seen
from server.flower.superlink_control import Node
from server.runs.state_machine import RunState
from tests.support.repository import ROOT
from tests.support.screen import wait_until

NOW = datetime.datetime(2030, 5, 1, 12, 0, tzinfo=datetime.UTC)
RUNNING = RunState(status="running", round=4, rounds=10, engine="in-process", started=NOW.isoformat())


def counted(number: int, psnr_db: float | None = 30.0) -> Figures:
    return Figures(number, "counted", psnr_db, 0.9, 0.1)


def psnr_of(entry: Figures) -> float | None:
    return entry.psnr_db


def test_the_time_left_is_the_median_of_the_last_rounds_times_those_left() -> None:
    left = time_left(RUNNING, [900.0, 10.0, 12.0, 11.0, 500.0, 10.0], asked=None, now=NOW)
    assert left is not None
    assert (left.median_s, left.n_rounds) == (11.0, 5)
    assert left.seconds == 6 * 11.0
    assert left.ends == NOW + datetime.timedelta(seconds=66)


def test_the_part_of_the_round_in_work_that_has_passed_counts_up_to_the_median() -> None:
    for passed, expected in ((4.0, 56.0), (10.0, 50.0), (1000.0, 50.0), (-5.0, 60.0)):
        left = time_left(RUNNING, [10.0], asked=NOW - datetime.timedelta(seconds=passed), now=NOW)
        assert left is not None
        assert left.seconds == expected


@pytest.mark.parametrize("status", ["created", "interrupted", "completed", "partial", "failed"])
def test_no_time_is_told_for_a_run_that_does_not_go_on(status: str) -> None:
    state = replace(RUNNING, status=status)  # type: ignore[arg-type]
    assert time_left(state, [10.0], asked=None, now=NOW) is None


def test_no_time_is_told_before_a_round_and_after_the_last() -> None:
    assert time_left(RUNNING, [], asked=None, now=NOW) is None
    assert time_left(replace(RUNNING, round=10), [10.0], asked=None, now=NOW) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 5 s"),
        (33, "about 35 s"),
        (60, "about 1 min"),
        (3599, "about 1 h 00 min"),
        (5400, "about 1 h 30 min"),
        (200_000, "about 2 days"),
    ],
)
def test_an_estimate_is_told_no_finer_than_it_is(seconds: float, words: str) -> None:
    assert left_words(seconds) == words


def test_participation_counts_what_became_of_every_round() -> None:
    rounds = (counted(1), Figures(2, "refused", None, None, None), Figures(3, "missing", None, None, None))
    assert participation_words(SiteView("sms", "idle")) == "no round completed"
    assert participation_words(SiteView("sms", "idle", rounds[:1])) == "1 of 1 round"
    assert participation_words(SiteView("sms", "idle", rounds)) == "1 of 3 rounds; refused in 1, missing in 1"


def node(status: str, online_until: float | None = None) -> Node:
    return Node(1, "sms", status, "SHA256:x", online_until)


def test_last_seen_says_who_saw_the_site() -> None:
    reply = NOW - datetime.timedelta(minutes=3)
    never, replied = SiteView("sms", "idle"), SiteView("sms", "idle", last_reply=reply)
    assert seen(never, None).words == "never in this run"
    assert seen(replied, Sighting(NOW, None)).moment == reply
    assert seen(replied, Sighting(NOW, None)).source == "by its last reply; the SuperLink does not answer"
    online = seen(never, Sighting(NOW, {"sms": node("online", NOW.timestamp() + 30)}))
    assert (online.words, online.moment, online.source) == ("online", NOW, "by the SuperLink")
    offline = seen(replied, Sighting(NOW, {"sms": node("offline", NOW.timestamp() - 90)}))
    assert offline.moment == NOW - datetime.timedelta(seconds=90)
    assert (
        seen(never, Sighting(NOW, {"sms": node("registered")})).words
        == "never: registered, has not connected"
    )
    assert seen(never, Sighting(NOW, {})).source == "the SuperLink knows no such site"


def test_a_superlink_that_does_not_answer_holds_up_no_page_after_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_presence, "ASK_AGAIN_S", 3600.0)
    sightings = NodePresence(lambda: Sighting(NOW, {"sms": node("online")}))
    wait_until(lambda: sightings.latest() is not None)
    first = sightings.latest()
    assert first is not None
    assert first.nodes is not None
    assert sightings.latest() is first, "it is not asked again at once"


points = st.lists(
    st.one_of(st.none(), st.floats(-1e6, 1e6), st.floats(0, 1e-6)), min_size=1, max_size=60
).filter(lambda values: any(value is not None for value in values))


@given(values=points)
def test_every_point_of_a_curve_lies_within_its_frame(values: list[float | None]) -> None:
    site = SiteView("sms", "idle", tuple(counted(number, value) for number, value in enumerate(values, 1)))
    drawn = curves([site], psnr_of, key="psnr", title="PSNR", unit=" dB")
    assert drawn is not None
    placed = [
        tuple(map(float, point.split(","))) for piece in drawn.lines[0].pieces for point in piece.split()
    ]
    placed += [(float(x), float(y)) for x, y in drawn.lines[0].markers]
    assert placed
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in placed)
    labels = [tick.label for tick in drawn.y_ticks]
    assert len(set(labels)) == len(labels) >= 2


def test_a_round_that_a_site_missed_is_a_gap_in_its_curve() -> None:
    rounds = tuple(counted(n) if n != 3 else Figures(n, "refused", None, None, None) for n in range(1, 6))
    drawn = curves([SiteView("sms", "idle", rounds)], psnr_of, key="psnr", title="PSNR", unit=" dB")
    assert drawn is not None
    assert [len(piece.split()) for piece in drawn.lines[0].pieces] == [2, 2]


def test_a_round_between_two_validations_is_no_gap() -> None:
    rounds = tuple(
        counted(n) if n % 10 == 1 else Figures(n, "counted", None, None, 0.1) for n in range(1, 2001)
    )
    site = SiteView("sms", "idle", rounds)
    drawn = curves([site], psnr_of, key="psnr", title="PSNR", unit=" dB")
    assert drawn is not None
    assert [len(piece.split()) for piece in drawn.lines[0].pieces] == [200]
    assert site.last_scored == rounds[-10]
    assert site.last_counted == rounds[-1]


def test_a_long_run_is_drawn_with_few_points_and_with_its_last_round() -> None:
    site = SiteView("sms", "idle", tuple(counted(number, float(number)) for number in range(1, 5001)))
    drawn = curves([site], psnr_of, key="psnr", title="PSNR", unit=" dB")
    assert drawn is not None
    assert sum(len(piece.split()) for piece in drawn.lines[0].pieces) <= MAX_POINTS
    assert len(drawn.lines[0].markers) <= MAX_MARKERS + 1
    assert "5000 dB in round 5000" in drawn.words
    assert drawn.x_ticks[-1].label == "5000"


def test_nothing_is_drawn_before_a_site_told_a_figure() -> None:
    site = SiteView("sms", "idle", (Figures(1, "missing", None, None, None),))
    assert curves([site], psnr_of, key="psnr", title="PSNR", unit=" dB") is None


def test_an_address_beyond_this_machine_has_to_be_asked_for() -> None:
    assert binding_of("127.0.0.1", 9480, (), plain_http=False).url == "http://127.0.0.1:9480/"
    assert binding_of("::1", 9480, (), plain_http=False).url == "http://[::1]:9480/"
    for address in ("0.0.0.0", "::", "10.0.0.7", "server.example.org"):
        with pytest.raises(InvalidSetting, match="plain-http"):
            binding_of(address, 9480, (), plain_http=False)
        assert binding_of(address, 9480, (), plain_http=True).address == address


def test_the_screen_imports_nothing_that_may_see_a_patient() -> None:
    code = (
        "import sys, server.dashboard.serve\n"
        "seen = {'sites', 'client', 'nibabel', 'SimpleITK', 'h5py'} & set(sys.modules)\n"
        "sys.exit(str(seen) if seen else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
