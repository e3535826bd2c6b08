"""Pages and lines of a run that say what none of ours does are damage with a code, whatever their digests say."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from minet_core.errors import RunDamaged
from minet_core.settings.federation import FederationSettings
from server.rounds.replies import KeptReply, check_parcels, keep, page_of
from server.runs.checked_page import MAX_BYTES, SEAL, page_digest, read_page
from server.runs.records import instant
from server.runs.resubmit import last_submission
from server.runs.run_directory import RunDirectory
from server.runs.summary import summary_of

FEDERATION = FederationSettings(name="study", sites=("sms", "umr"), participation={"quorum": 2})
EVENT = {"time": "2030-05-01T12:00:00+00:00", "event": "reply-refused", "site": "sms", "code": "FM-F401"}


def seal_again(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    content.pop(SEAL)
    path.write_text(json.dumps({**content, SEAL: page_digest(content)}))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "first", FEDERATION, engine="in-process")


@pytest.mark.parametrize("said", ["1e400", "-inf", "nan"])
@pytest.mark.parametrize("key", ["figures", "shortened", "update_norm"])
def test_a_reply_whose_page_has_a_figure_that_is_none_is_damaged(tmp_path: Path, said: str, key: str) -> None:
    keep(tmp_path, KeptReply("sms", 1.0, figures={"round": 2}, sha256="ab"))
    seal_again(page_of(tmp_path, "sms"), **{key: said if key == "update_norm" else {"round": said}})
    with pytest.raises(RunDamaged, match=r"sms\.json"):
        check_parcels(tmp_path, ["sms"], round_number=2)


@pytest.mark.parametrize("said", ["1e400", "nan"])
def test_a_test_s_score_that_is_none_is_damaged(run: RunDirectory, said: str) -> None:
    run.record_tests({"sms": {"global_psnr_db": 30.0}})
    seal_again(run.path / "tests.json", sms={"global_psnr_db": said})
    with pytest.raises(RunDamaged, match=r"tests\.json"):
        run.tests_recorded()


@pytest.mark.parametrize(
    "changes",
    [
        {"started": "yesterday"},
        {"updated": "2030-05-01T12:00:00"},
        {"asked_at": "0001-01-01T00:00:00+14:00"},
        {"rounds": 10**400},
    ],
)
def test_a_state_of_impossible_times_or_rounds_is_damaged(run: RunDirectory, changes: dict[str, Any]) -> None:
    seal_again(run.path / "state.json", **changes)
    with pytest.raises(RunDamaged, match=r"state\.json"):
        _ = run.state


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"round": True},
        {"round": "1"},
        {"round": 1, "seconds": "long"},
        {"round": 1, "sites": ["sms"]},
        {"round": 1, "sites": {"sms": 3}},
        {"round": 1, "sites": {"sms": {"train_loss": 1e300}}},
        {"round": 1, "sites": {"sms": {"bytes_up": 10**400}}},
        {"round": 1, "sites": {"sms": {"validation": {"psnr_db": "30"}}}},
        {"round": 1, "sites": {"sms": {"update_norm": float("inf")}}},
        [],
    ],
)
def test_a_round_s_line_of_other_values_is_damaged(run: RunDirectory, line: Any) -> None:
    (run.path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(RunDamaged, match=r"metrics\.jsonl"):
        run.rounds_recorded()


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "noon"},
        {"time": 3},
        {"event": ["reply-refused"]},
        {"site": {"sms": 1}},
        {"sites": "sms"},
        {"event": "share-bounded"},
        {"bound": "much"},
        {"n_training_slices": 10**400},
    ],
)
def test_an_event_of_other_values_is_damaged(run: RunDirectory, changes: dict[str, Any]) -> None:
    (run.path / "events.jsonl").write_text(json.dumps(EVENT | changes) + "\n")
    with pytest.raises(RunDamaged, match=r"events\.jsonl"):
        run.events_recorded()


def test_a_line_may_lack_what_an_earlier_version_did_not_write_and_say_more(run: RunDirectory) -> None:
    lines = [{"round": 1}, {"round": 2, "sites": {"sms": {"refused": None}}, "new": [1e300, "x"]}]
    for line in lines:
        run.metrics(line)
    assert run.rounds_recorded() == lines
    run.event("not-known-yet", round="x", much={"a": 1})
    assert run.events_recorded()[0]["much"] == {"a": 1}


@pytest.mark.parametrize("deep", ["[" * 50_000, '{"round": 1, "x": ' + "[" * 50_000])
def test_a_line_that_is_nested_too_deep_is_damaged(run: RunDirectory, deep: str) -> None:
    (run.path / "metrics.jsonl").write_text(deep + "\n")
    with pytest.raises(RunDamaged, match=r"metrics\.jsonl"):
        run.rounds_recorded(last=1)


def test_what_is_larger_than_any_page_or_line_of_ours_is_not_decoded(run: RunDirectory) -> None:
    """Nested empty lists take thirty times their text: this one, decoded, some 150 MiB."""
    text = "[" + "[]," * (MAX_BYTES // 2) + "0]"
    for name in ("tests.json", "metrics.jsonl", "submission.json"):
        (run.path / name).write_text(text)
    tracemalloc.start()
    try:
        for read in (
            lambda: read_page(run.path / "tests.json"),
            run.rounds_recorded,
            lambda: last_submission(run),
        ):
            with pytest.raises(RunDamaged):
                read()
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "page",
    [
        "",
        "[]",
        "[" * 50_000,
        '{"flower_run": -1, "time_s": 1.0, "progress": ""}',
        '{"flower_run": "1", "time_s": 1.0, "progress": ""}',
        '{"flower_run": 1, "time_s": NaN, "progress": ""}',
        '{"flower_run": 1, "time_s": 1.0}',
    ],
)
def test_a_submission_of_other_values_is_damaged(run: RunDirectory, page: str) -> None:
    (run.path / "submission.json").write_text(page)
    with pytest.raises(RunDamaged, match=r"submission\.json"):
        last_submission(run)


def test_a_run_whose_tests_lack_a_figure_has_no_summary_and_a_code(run: RunDirectory) -> None:
    summary_of(run)
    run.record_tests({"sms": {"kind": 0.0}})
    with pytest.raises(RunDamaged, match="no summary"):
        summary_of(run)


@pytest.mark.parametrize("text", ["", "2030-05-01", "2030-05-01T12:00:00", "9999-12-31T23:00:00-10:00"])
def test_a_time_without_its_offset_or_beyond_all_years_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|isoformat"):
        instant(text)
