"""Prometheus reads the same figures, and the Grafana dashboard asks for none that does not exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from minet_core.runtime.files.atomic_write import write_text
from minet_core.runtime.processes.child_processes import free_port
from server.admission.enrolment import revoke
from server.admission.pki import server_files
from server.admission.revocation import CRL_DAYS, CRL_FILE
from server.runs.checked_page import SEAL, page_digest
from server.server_home import ServerHome
from tests.support.admitted import make_coordinator, make_site
from tests.support.repository import ROOT
from tests.support.screen import SITES, Behaviour, conduct, created, made_home, served

GRAFANA = ROOT / "docs" / "grafana" / "fedminet.json"
PROMQL_WORDS = {"sum", "by", "on", "group_left", "rate", "increase", "time", "label_values"}
LABELS = {"run", "site", "code", "certificate"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ServerHome:
    home = made_home(tmp_path_factory.mktemp("metrics"))
    contract = {"quorum": 2, "deadline_s": 1.0, "retries": 0}
    conduct(created(home, "short", rounds=3, participation=contract), Behaviour(fails={"umr": (2,)}))
    created(home, "waits", rounds=7)
    return home


@pytest.fixture(scope="module")
def client(home: ServerHome) -> Iterator[httpx.Client]:
    with served(home) as client:
        yield client


def read(client: httpx.Client) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


@pytest.mark.parametrize(
    "changes", [{"bytes_up": 10**400}, {"train_loss": "x"}, {"train_loss": 1e308}, {"share": []}]
)
def test_a_run_of_odd_figures_is_counted_and_takes_no_metric_from_the_others(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    home = made_home(tmp_path)
    created(home, "sound", rounds=7)
    run = created(home, "odd")
    told = {"refused": None, "n_training_slices": 9, "bytes_up": 0, "bytes_down": 0, **changes}
    run.metrics({"round": 1, "seconds": 1.0, "sites": {SITES[0]: told}})
    state = json.loads((run.path / "state.json").read_text()) | {"round": 1}
    state.pop(SEAL)
    write_text(run.path / "state.json", json.dumps({**state, SEAL: page_digest(state)}))
    with served(home) as client:
        samples = read(client)
    assert value(samples, "fedminet_runs_unreadable") == 1
    assert value(samples, "fedminet_run_rounds_planned", run="sound") == 7


def test_a_run_whose_test_lacks_a_score_takes_no_metric_from_the_others(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    created(home, "sound", rounds=7)
    created(home, "odd").record_tests({SITES[0]: {"kind": 0.0}})
    with served(home) as client:
        samples = read(client)
        assert client.get("/runs/odd").status_code == 500
    assert value(samples, "fedminet_runs_unreadable") == 1
    assert value(samples, "fedminet_run_rounds_planned", run="sound") == 7


def test_the_figures_of_a_run_are_those_of_its_records(home: ServerHome, client: httpx.Client) -> None:
    samples = read(client)
    assert value(samples, "fedminet_run_state", run="short", fedminet_run_state="partial") == 1
    assert value(samples, "fedminet_run_state", run="short", fedminet_run_state="running") == 0
    assert value(samples, "fedminet_run_rounds_done", run="short") == 3
    assert value(samples, "fedminet_run_rounds_planned", run="waits") == 7
    records = [json.loads(line) for line in (home.runs / "short" / "metrics.jsonl").read_text().splitlines()]
    assert value(samples, "fedminet_run_round_seconds", run="short") == records[-1]["seconds"]
    for site in SITES:
        last = records[-1]["sites"][site]
        labels = {"run": "short", "site": site}
        assert value(samples, "fedminet_site_validation_psnr_db", **labels) == last["validation"]["psnr_db"]
        assert value(samples, "fedminet_site_train_loss", **labels) == last["train_loss"]
        for direction in ("up", "down"):
            total = sum(record["sites"][site][f"bytes_{direction}"] for record in records)
            assert total > 0
            assert value(samples, f"fedminet_site_bytes_{direction}_total", **labels) == total
        assert value(samples, "fedminet_site_rounds_counted_total", **labels) == (2 if site == "umr" else 3)
    assert value(samples, "fedminet_site_refusals_total", run="short", site="umr", code="FM-D207") == 1


def test_what_is_not_known_has_no_sample(client: httpx.Client) -> None:
    samples = read(client)
    assert value(samples, "fedminet_run_seconds_left", run="waits") is None
    assert value(samples, "fedminet_run_round_seconds", run="waits") is None
    assert value(samples, "fedminet_site_validation_psnr_db", run="waits", site="sms") is None
    assert value(samples, "fedminet_superlink_answers") == 0
    assert not [name for name, _ in samples if name == "fedminet_site_online"]


def test_a_site_was_last_seen_at_its_last_reply(home: ServerHome, client: httpx.Client) -> None:
    samples = read(client)
    updated = value(samples, "fedminet_run_updated_timestamp_seconds", run="short")
    seen = value(samples, "fedminet_site_last_seen_timestamp_seconds", site="sms")
    assert updated is not None
    assert seen is not None
    assert 0 <= updated - seen < 60


def test_the_certificates_days_are_counted_and_a_missing_one_has_no_sample(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    with served(home) as client:
        samples = read(client)
        assert value(samples, "fedminet_certificate_days_left", certificate="server") == pytest.approx(
            90, abs=0.1
        )
        assert value(samples, "fedminet_certificate_days_left", certificate="ca") == pytest.approx(
            730, abs=0.1
        )
        server_files(home.pki).certificate.unlink()
        assert value(read(client), "fedminet_certificate_days_left", certificate="server") is None


def test_the_days_of_the_sites_and_of_the_revocation_list_are_counted(tmp_path: Path) -> None:
    coordinator = make_coordinator(tmp_path / "server", port=free_port())
    for name in ("sms", "umr"):
        coordinator.admit(make_site(tmp_path / name, name), tmp_path / f"kit-{name}", days=20)
    revoke(coordinator.home, coordinator.authority, "umr", reason="left the study")
    with served(coordinator.home) as client:
        samples = read(client)
        left = {
            name: value(samples, "fedminet_certificate_days_left", certificate=name)
            for name in ("site:sms", "site:umr", "crl")
        }
        assert left["site:sms"] == pytest.approx(20, abs=0.1)
        assert left["site:umr"] is None  # nobody is to renew it
        assert left["crl"] == pytest.approx(CRL_DAYS, abs=0.1)
        (coordinator.home.sites / "sms.pem").write_text("damaged")
        (coordinator.home.pki / CRL_FILE).write_text("damaged")
        samples = read(client)
        for name in ("site:sms", "crl"):
            assert value(samples, "fedminet_certificate_days_left", certificate=name) is None
        assert value(samples, "fedminet_certificate_days_left", certificate="server") is not None


def test_a_damaged_run_is_counted_and_hides_no_other(tmp_path: Path) -> None:
    home = made_home(tmp_path)
    created(home, "sound")
    write_text(created(home, "broken").path / "state.json", "{")
    with served(home) as client:
        samples = read(client)
    assert value(samples, "fedminet_runs_unreadable") == 1
    assert value(samples, "fedminet_run_rounds_done", run="sound") == 0


def test_openmetrics_is_given_to_who_asks_for_it(client: httpx.Client) -> None:
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def queries() -> list[str]:
    content = json.loads(GRAFANA.read_text(encoding="utf-8"))
    variables = [entry["definition"] for entry in content["templating"]["list"] if entry["type"] == "query"]
    return variables + [target["expr"] for panel in content["panels"] for target in panel["targets"]]


def test_every_query_of_the_grafana_dashboard_names_a_metric_that_exists(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    known = {sample.name for family in families for sample in family.samples}
    known |= {name for family in families for name in (family.name, f"{family.name}_total")}
    asked = queries()
    assert len(asked) > 15
    for query in asked:
        bare = re.sub(r'"[^"]*"|\[[^]]*\]', "", query)
        words = set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*", bare)) - PROMQL_WORDS - LABELS
        assert words, query
        assert words <= known, query


def test_the_grafana_dashboard_shows_every_metric_of_a_run_and_its_sites(client: httpx.Client) -> None:
    asked = " ".join(queries())
    helps = re.findall(r"# TYPE (fedminet_\S+) ", client.get("/metrics").text)
    left_out = {"fedminet_info", "fedminet_site_training_slices", "fedminet_run_updated_timestamp_seconds"}
    assert [name for name in helps if name not in asked] == [name for name in helps if name in left_out]
