"""What a model was trained on: measured at a site, sent in coarse figures, merged, carried, and read back."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from fedminet.simulation.in_process_grid import InProcessGrid
from minet_core.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from minet_core.checkpoint_manifest import METADATA_KEY, describe
from minet_core.protocol import messages
from minet_core.settings.federation import ModelSettings
from minet_core.training_domain import Span, TrainingDomain, domain_of_figures, merged, rounded_span
from sites.store.store import Store
from sites.store.training_domain import measured_domain
from tests.faults.tiny_sites import make_tiny_sites
from tests.faults.trial_sites import TRIAL_SITES, conduct_trial, trial_federation, trial_site


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> TrainingDomain:
    home = make_tiny_sites(tmp_path_factory.mktemp("tiny"), names=("sms",), shape=(8, 64, 60))["sms"]
    found = measured_domain(Store(home.store), scale=2)
    assert found is not None
    return found


def test_a_sites_domain_is_measured_and_coarse(domain: TrainingDomain) -> None:
    assert (domain.target, domain.reference, domain.data_kind) == (("T2",), ("T1",), ("real",))
    assert (domain.pixel_mm, domain.slice_mm) == (Span(low=3.0, high=3.0), Span(low=4.0, high=4.0))
    for name, step in (("target_middle", 0.05), ("reference_rim", 0.05), ("reference_noise", 0.01)):
        span = getattr(domain, name)
        for end in (span.low, span.high):
            assert end == pytest.approx(round(end / step) * step)


def test_a_domain_travels_as_the_agreed_figures_and_no_others(domain: TrainingDomain) -> None:
    figures = domain.figures()
    assert figures.keys() == messages.DOMAIN_FIGURES.keys()
    checked = messages.checked_figures(figures, agreed=messages.DOMAIN_FIGURES)
    assert domain_of_figures(checked) == domain


def test_a_reply_without_a_domain_or_with_half_of_one_tells_none(domain: TrainingDomain) -> None:
    assert domain_of_figures({}) is None
    assert domain_of_figures(None) is None
    half = dict(itertools.islice(domain.figures().items(), 5))
    assert domain_of_figures(half) is None


def test_a_site_that_does_not_tell_its_slope_tells_its_domain(domain: TrainingDomain) -> None:
    assert domain.target_slope is not None
    former = domain.model_copy(update={"target_slope": None})
    figures = former.figures()
    assert not any("slope" in name for name in figures)
    assert domain_of_figures(figures) == former
    assert "target_slope" not in former.model_dump(mode="json")  # so a model's file keeps its digest
    assert TrainingDomain.model_validate(former.model_dump(mode="json")) == former


def test_the_slope_of_a_former_and_a_new_site_is_the_new_ones(domain: TrainingDomain) -> None:
    former = domain.model_copy(update={"target_slope": None})
    assert merged([former, former]) == former
    assert merged([former, domain]) == merged([domain, former]) == domain
    steeper = domain.model_copy(update={"target_slope": Span(low=-9.0, high=-8.0)})
    of_three = merged([merged([former, domain]), steeper])
    assert of_three is not None
    assert of_three == merged([domain, steeper, former])
    assert of_three.target_slope == merged([domain, steeper]).target_slope  # type: ignore[union-attr]


def test_domains_merge_to_what_holds_them_all_in_any_order_and_twice(domain: TrainingDomain) -> None:
    other = domain.model_copy(update={"pixel_mm": Span(low=0.5, high=0.9), "target": ("FS-PD",)})
    both = merged([domain, None, other])
    assert both is not None
    assert (both.pixel_mm, both.target) == (Span(low=0.5, high=3.0), ("FS-PD", "T2"))
    assert both == merged([other, domain]) == merged([both, other, domain])
    assert merged([None]) is None


def test_a_span_is_rounded_at_its_ends() -> None:
    assert rounded_span([0.513, 0.72], 0.1) == Span(low=0.5, high=0.7)
    assert rounded_span([0.337], 0.05) == Span(low=0.35, high=0.35)


def test_a_model_carries_its_domain_and_an_old_one_is_still_read(
    domain: TrainingDomain, tmp_path: Path
) -> None:
    weights = {"w": np.ones(3, np.float32)}
    facts = {"model": ModelSettings(), "scale": 2, "round_number": 1, "provenance": {}}
    save_checkpoint(tmp_path / "new.safetensors", weights, describe(weights, **facts, domain=domain))
    assert read_manifest(tmp_path / "new.safetensors").domain == domain
    save_checkpoint(tmp_path / "old.safetensors", weights, describe(weights, **facts))
    content = (tmp_path / "old.safetensors").read_bytes()
    assert b"domain" not in content  # byte for byte what was written before there was one
    assert load_checkpoint(tmp_path / "old.safetensors")[1].domain is None
    text = read_manifest(tmp_path / "new.safetensors").as_json()
    text["domain"]["pixel_mm"]["high"] = 9.0
    changed = json.dumps({"manifest": text, "sha256": "0" * 64})
    save_file(
        load_file(tmp_path / "old.safetensors"), tmp_path / "changed.safetensors", {METADATA_KEY: changed}
    )
    with pytest.raises(Exception, match="was changed"):
        read_manifest(tmp_path / "changed.safetensors")


def test_the_global_model_of_a_run_carries_what_its_sites_told(tmp_path: Path) -> None:
    sites = {name: trial_site(shift=0.1, n_training_slices=10) for name in TRIAL_SITES}
    run = conduct_trial(tmp_path, InProcessGrid(sites), trial_federation())
    found = read_manifest(run.checkpoint(2)).domain
    assert found is not None
    assert found.pixel_mm == Span(low=0.5, high=0.5)  # what a trial's site says of every figure
    assert found.data_kind == (messages.KINDS[1],)
