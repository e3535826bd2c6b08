"""The summary, its verdict, the report in HTML and the table for a terminal."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from minet_core.errors import ConfigurationError, FileMissing, InvalidSetting, UnknownKey
from minet_core.report.panel import Panel
from minet_core.report.render import report_html, write_report
from minet_core.report.summary import Summary, read_summary, verdict, write_summary
from minet_core.report.table import print_table
from minet_core.report.wording import architecture_text, code_meaning, duration_text, size_text
from minet_core.settings.yaml_file import parse_settings
from tests.minet_core.report.test_figures import panel

pytestmark = pytest.mark.charts

ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(2)>$\\frac{$'


def scores(psnr_db: float, ssim: float) -> dict[str, float]:
    return {"psnr_db": psnr_db, "ssim": ssim, "nmse": 10 ** (-psnr_db / 10)}


def site(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "kind": "phantom",
        "n_test_volumes": 4,
        "n_training_slices": 120,
        "few_patients": False,
        "global": scores(34.0, 0.95),
        "sinc": scores(30.5, 0.87),
        "bicubic": scores(30.0, 0.88),
        "intervals": {"global": {"psnr_db": [33.1, 34.9], "ssim": [0.94, 0.96], "nmse": None}},
    }
    return content | changes


def content(*, names: tuple[str, ...] = ("sms", "umr"), **changes: Any) -> dict[str, Any]:
    reply = {
        "seconds": 7.5,
        "bytes_up": 275_000,
        "bytes_down": 280_000,
        "train_loss": 0.1,
        "validation": scores(32.0, 0.9),
        "refused": None,
    }
    rounds = [
        {
            "round": number,
            "seconds": 8.0,
            "bytes_up": 275_000 * len(names),
            "bytes_down": 280_000 * len(names),
            "aggregated": True,
            "sites": {name: dict(reply) for name in names},
        }
        for number in (1, 2)
    ]
    whole: dict[str, Any] = {
        "schema": 1,
        "status": "completed",
        "status_reason": None,
        "name": "three-hospitals",
        "rounds": 2,
        "rounds_declared": 2,
        "scale": 2,
        "engine": "in-process",
        "sites": {name: site() for name in names},
        "model": {"path": "global.safetensors", "sha256": "ab" * 32, "n_parameters": 68412},
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "per_round": rounds,
        "federation": {"name": "three-hospitals", "sites": list(names), "model": {"n_groups": 2}},
        "machine": {"cores": 2, "memory_gib": 15.6, "processor": "a processor"},
        "seconds": 75.0,
        "started": "2030-01-02T03:04:05+00:00",
    }
    return whole | changes


def summary(**changes: Any) -> Summary:
    return Summary.model_validate(content(**changes))


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_summary_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = summary()
    write_summary(tmp_path / "summary.json", written)
    assert read_summary(tmp_path / "summary.json") == written


def test_the_file_has_the_documented_keys(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.json", summary())
    plain = json.loads((tmp_path / "summary.json").read_text())
    assert plain["schema"] == 1
    assert plain["sites"]["sms"]["global"] == scores(34.0, 0.95)
    assert plain["sites"]["sms"]["intervals"]["global"]["psnr_db"] == [33.1, 34.9]
    assert plain["sites"]["sms"].keys() >= {"kind", "n_test_volumes", "global", "sinc", "bicubic"}


def test_a_summary_that_is_missing_or_wrong_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(FileMissing):
        read_summary(path)
    path.write_text("{not json")
    with pytest.raises(ConfigurationError, match="not a JSON file"):
        read_summary(path)
    path.write_text("[1]")
    with pytest.raises(ConfigurationError, match="holds no summary"):
        read_summary(path)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(UnknownKey):
        parse_settings(content(speed=1), Summary, source="summary.json")


@pytest.mark.parametrize("text", ["Traceback: /data/patients/doe", "FM-M302 /data/doe", "fm-m302", ""])
def test_a_refusal_holds_a_code_and_never_a_text_of_a_site(text: str) -> None:
    spoilt = content()
    spoilt["per_round"][0]["sites"]["sms"]["refused"] = text
    with pytest.raises(ValueError, match="refused"):
        Summary.model_validate(spoilt)


def test_completed_is_refused_after_a_round_that_aggregated_nothing() -> None:
    empty = content()
    empty["per_round"][1]["aggregated"] = False
    with pytest.raises(ValueError, match="aggregated nothing"):
        Summary.model_validate(empty)
    with pytest.raises(ValueError, match="1 of 2 declared rounds"):
        Summary.model_validate(content(rounds=1))
    assert Summary.model_validate(empty | {"status": "partial"}).status == "partial"


def test_the_verdict_holds_only_where_every_site_gains_in_psnr_and_ssim() -> None:
    assert verdict(summary()).beats_everywhere
    weaker = summary(sites={"sms": site(), "umr": site(**{"global": scores(33.0, 0.875)})})
    judged = verdict(weaker)
    assert not judged.beats_everywhere
    assert [(entry.site, entry.baseline, entry.metric) for entry in judged.shortfalls] == [
        ("umr", "bicubic", "ssim")
    ]


def test_an_equal_score_does_not_beat() -> None:
    assert not verdict(summary(sites={"sms": site(**{"global": scores(30.5, 0.95)})})).beats_everywhere


def test_a_site_without_scores_leaves_the_verdict_open() -> None:
    judged = verdict(summary(sites={"sms": site()}))
    assert judged.unscored == ("umr",)
    assert not judged.beats_everywhere
    words = Page(report_html(summary(sites={"sms": site()}))).words
    assert "120 training slices" in words
    assert "0 training slices" not in words.replace("120 training slices", "")


@pytest.mark.parametrize(
    ("architecture", "said"), [("minet", "MINet"), ("late-fusion", "late fusion"), (None, "MINet")]
)
def test_the_report_names_the_method_that_was_trained(architecture: str | None, said: str) -> None:
    made = content()
    made["federation"]["model"] = {} if architecture is None else {"architecture": architecture}
    assert f"super-resolution with {said} at" in report_html(Summary.model_validate(made))
    assert architecture_text({"model": {"architecture": "another"}}) == "another"


def test_a_run_without_any_result_beats_nothing() -> None:
    failed = summary(
        status="failed", status_reason="FM-F402: round 1", rounds=0, sites={}, per_round=(), model=None
    )
    assert not verdict(failed).beats_everywhere
    page = Page(report_html(failed))
    assert "did not evaluate" in page.words
    assert "FM-F402: round 1" in page.words
    bare = failed.model_copy(update={"federation": {}})
    assert not verdict(bare).beats_everywhere
    assert "beats" not in Page(report_html(bare)).words


def test_the_report_needs_no_other_file_and_runs_nothing(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", summary(), panels={"sms": panel(), "umr": panel()})
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not page.all("script")
    assert not page.all("link")
    assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))
    assert not re.search(r"url\(|@import|https?://", re.sub(r"data:[^\"]+", "", html))
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_every_image_has_words_and_every_table_heading_a_scope() -> None:
    page = Page(report_html(summary(), panels={"sms": panel()}))
    assert len(page.all("img")) == 2 + 6 + 6 + 3 + 1 + 4  # scores, slices, details, errors, scale, rounds
    assert all(image.get("alt") for image in page.all("img"))
    assert all(heading.get("scope") for heading in page.all("th"))


def test_the_report_names_every_site_with_its_figures_and_its_kind() -> None:
    few = site(kind="surrogate", few_patients=True, n_test_volumes=1, intervals={})
    words = Page(report_html(summary(sites={"sms": site(), "umr": few}))).words
    for expected in ("34.00", "33.10 to 34.90", "0.9500", "+3.50", "−0.50", "surrogate", "phantom"):
        assert expected in words
    assert "Few patients" in words
    assert "one volume gives no interval" in words


def test_methods_compared_with_are_listed_beside_the_global_model() -> None:
    compared = site(compared={"pooled": scores(34.25, 0.955), "local": scores(33.0, 0.94)})
    words = Page(report_html(summary(sites={"sms": compared, "umr": compared}))).words
    assert "pooled" in words
    assert "+3.75" in words


def test_refused_and_missing_replies_are_listed_with_their_meaning() -> None:
    partial = content(status="partial", status_reason="FM-F402: round 2", rounds=1)
    second = partial["per_round"][1]
    second["aggregated"] = False
    second["sites"]["sms"] = {"refused": "FM-M302"}
    del second["sites"]["umr"]
    words = Page(report_html(Summary.model_validate(partial))).words
    assert "FM-M302" in words
    assert code_meaning("FM-M302") in words
    assert "no reply" in words
    assert "grey band" in words


def test_what_was_waited_for_a_site_is_no_time_of_the_site() -> None:
    missed = content()
    for entry in missed["per_round"]:
        entry["sites"]["umr"] = {"refused": "FM-F405", "seconds": 4321.0, "bytes_down": 5}
    words = Page(report_html(Summary.model_validate(missed))).words
    assert "no reply" in words
    assert duration_text(4321.0) not in words
    assert duration_text(2 * 4321.0) not in words


def test_a_code_is_explained_in_the_words_of_its_class() -> None:
    assert code_meaning("FM-M303") == (
        "The loss or a gradient is not finite, or the loss beyond that of any image."
    )
    assert "no code of its own" in code_meaning("FM-S900")
    assert "does not know" in code_meaning("FM-Z999")


def test_markup_in_any_name_is_shown_and_not_obeyed() -> None:
    attacked = content(
        names=(ATTACK, "umr"),
        name=ATTACK,
        status="partial",
        status_reason=ATTACK,
        versions={ATTACK: ATTACK},
        machine={"cores": 1, "memory_gib": 1.0, "processor": ATTACK},
        model={"path": ATTACK, "sha256": ATTACK, "n_parameters": 1},
    )
    attacked["federation"][ATTACK] = ATTACK
    attacked["sites"][ATTACK]["compared"] = {ATTACK: scores(31.0, 0.9)}
    del attacked["per_round"][1]["sites"][ATTACK]
    html = report_html(Summary.model_validate(attacked), panels={ATTACK: panel()})
    page = Page(html)
    assert "<script" not in html
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    assert ATTACK in page.words


def test_the_same_summary_gives_the_same_report() -> None:
    panels: dict[str, Panel] = {"sms": panel()}
    assert report_html(summary(), panels=panels) == report_html(summary(), panels=panels)


def test_a_report_has_room_for_a_hundred_sites() -> None:
    names = tuple(f"site-{number}" for number in range(100))
    page = Page(
        report_html(summary(names=names))
    )  # a layout that collapsed would warn, and a warning is an error
    assert "site-99" in page.words


def test_a_suspect_update_that_counted_is_named_with_what_was_seen() -> None:
    noted = content()
    noted["per_round"][0]["sites"]["umr"]["noted"] = ["FM-F410"]
    words = Page(report_html(Summary.model_validate(noted))).words
    assert "FM-F410" in words
    assert "far larger than the others" in words
    assert "It was noted, and a reply of the site counts." in words


def printed(what: Summary, **options: Any) -> str:
    stream = io.StringIO()
    print_table(what, Console(file=stream, width=100, **options))
    return stream.getvalue()


def test_the_table_is_plain_where_there_is_no_terminal() -> None:
    lines = printed(summary()).splitlines()
    assert lines[0].split("  ")[0] == "site"
    assert "PSNR [dB]" in lines[0]
    assert "sms (phantom, 4 test volumes)" in lines[1]
    assert any("global model" in line and "34.00" in line and "+3.50" in line for line in lines)
    assert lines[-1].startswith("completed: 2 of 2 rounds. The global model beats sinc")
    assert all(character.isascii() or character == "−" for line in lines for character in line)


def test_the_table_is_ruled_on_a_terminal_and_keeps_units_in_brackets() -> None:
    text = printed(summary(), force_terminal=True)
    assert "│" in text
    assert "PSNR [dB]" in re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_name_is_never_read_as_markup_of_the_terminal() -> None:
    hostile = summary(sites={"[red]sms[/red]": site(few_patients=True)}, name="[blink]x")
    for options in ({}, {"force_terminal": True}):
        assert "[red]sms[/red]" in printed(hostile, **options).replace("\n", "")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 00 s"), (3599.6, "1 h 00 min"), (7380, "2 h 03 min")],
)
def test_durations_are_in_the_two_largest_units(seconds: float, words: str) -> None:
    assert duration_text(seconds) == words


@pytest.mark.parametrize(
    ("n_bytes", "words"), [(0, "0 B"), (999, "999 B"), (275_000, "275.00 kB"), (2e13, "20.00 TB")]
)
def test_sizes_are_decimal(n_bytes: float, words: str) -> None:
    assert size_text(n_bytes) == words


def test_a_setting_of_the_wrong_type_is_named() -> None:
    with pytest.raises(InvalidSetting, match="scale"):
        parse_settings(content(scale=3), Summary, source="summary.json")
