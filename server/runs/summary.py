"""summary.json and report.html from what a run directory holds. No image of a patient: the server has none."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from minet_core.checkpoint import load_checkpoint
from minet_core.protocol import messages
from minet_core.report.render import write_report
from minet_core.report.summary import Summary, write_summary
from minet_core.runtime.files.atomic_write import sha256_of_file
from minet_core.runtime.json_text import NOT_AS_WRITTEN
from minet_core.runtime.machine import machine_facts
from minet_core.runtime.versions import versions
from minet_core.settings.adaptation import CANDIDATES
from server.runs.checked_page import damaged
from server.runs.run_directory import RunDirectory


def summarise_run(run: RunDirectory) -> Summary:
    """Write summary.json and report.html of `run` and return the summary."""
    summary = summary_of(run)
    write_summary(run.path / "summary.json", summary)
    write_report(run.path / "report.html", summary, panels={})
    return summary


def summary_of(run: RunDirectory) -> Summary:
    """The summary of `run` as it stands. Raises RunDamaged (FM-S517)."""
    try:
        return _summary_of(run)
    except NOT_AS_WRITTEN as failure:
        raise damaged(run.path, "holds pages that no summary can be made of") from failure


def _summary_of(run: RunDirectory) -> Summary:
    federation, state = run.federation(), run.state
    tested = run.tests_recorded()
    return Summary.model_validate(
        {
            "schema": 1,
            "status": "running" if state.status in ("created", "interrupted") else state.status,
            "status_reason": state.reason,
            "name": federation.name,
            "rounds": state.round,
            "rounds_declared": federation.rounds,
            "scale": federation.scale,
            "engine": state.engine,
            "sites": {site: _site(tested[site]) for site in federation.sites if site in tested},
            "model": _model(run),
            "versions": versions(),
            "per_round": [_round(record) for record in run.rounds_recorded()],
            "federation": federation.model_dump(mode="json"),
            "machine": asdict(machine_facts()),
            "seconds": _seconds_between(state.started, state.updated),
            "started": state.started,
        }
    )


def _site(figures: dict[str, float]) -> dict[str, object]:
    own = [m for m in CANDIDATES if m not in messages.METHODS and f"{m}_{messages.SCORES[0]}" in figures]
    intervals = {
        method: {score: _interval(figures, f"{method}_{score}") for score in messages.SCORES}
        for method in (*messages.METHODS, *own)
    }
    adapted = {} if "chosen" not in figures else {"adaptation": _adaptation(figures, own)}
    return {
        "kind": messages.KINDS[int(figures["kind"])],
        "n_test_volumes": int(figures["n_test_volumes"]),
        "n_training_slices": int(figures["n_training_slices"]),
        "few_patients": bool(figures["few_patients"]),
        **{m: {score: figures[f"{m}_{score}"] for score in messages.SCORES} for m in messages.METHODS},
        "intervals": intervals,
        **adapted,
    }


def _adaptation(figures: dict[str, float], own: Sequence[str]) -> dict[str, object]:
    """What a site told of its adaptation; own: the models that it trained and scored."""
    pairs = {
        f"{first} less {second}": f"{first}_less_{second}_db" for first, second in messages.COMPARED_PAIRS
    }
    return {
        "chosen": CANDIDATES[int(figures["chosen"])],
        **{model: {score: figures[f"{model}_{score}"] for score in messages.SCORES} for model in own},
        "differences": {
            words: {"mean_db": figures[name], "interval": _interval(figures, name)}
            for words, name in pairs.items()
            if name in figures
        },
    }


def _interval(figures: dict[str, float], name: str) -> tuple[float, float] | None:
    return (figures[f"{name}_low"], figures[f"{name}_high"]) if f"{name}_low" in figures else None


def _model(run: RunDirectory) -> dict[str, object] | None:
    path = run.global_model
    if not path.exists():
        return None
    tensors, _ = load_checkpoint(path)
    return {
        "path": path.name,
        "sha256": sha256_of_file(path),
        "n_parameters": sum(tensor.numel() for tensor in tensors.values()),
    }


def _round(record: dict[str, Any]) -> dict[str, object]:
    sites = record["sites"]
    kept = ("seconds", "bytes_up", "bytes_down", "train_loss", "validation", "refused", "noted")
    return {
        "round": record["round"],
        "seconds": record["seconds"],
        "aggregated": record["aggregated"],
        "bytes_up": sum(site.get("bytes_up", 0) for site in sites.values()),
        "bytes_down": sum(site.get("bytes_down", 0) for site in sites.values()),
        "sites": {name: {key: site[key] for key in kept if key in site} for name, site in sites.items()},
    }


def _seconds_between(earlier: str, later: str) -> float:
    difference = datetime.datetime.fromisoformat(later) - datetime.datetime.fromisoformat(earlier)
    return difference.total_seconds()
