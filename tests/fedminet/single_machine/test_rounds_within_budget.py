"""A demonstration's rounds fit the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedminet.single_machine.demo import shortened
from fedminet.single_machine.federation import DEMO_TRAINING_S, SCHEDULES, Rehearsal, Schedule
from fedminet.single_machine.rounds_within_budget import (
    MIN_ROUNDS,
    rounds_here,
    rounds_within,
    seconds_of_a_step,
)
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import FederationSettings
from minet_core.settings.presets import federation_of

SITES = ("sms", "umr", "fastmri")


def federation(*, rounds: int = 24) -> FederationSettings:
    return federation_of(name="demo", sites=SITES, preset="quick", scale=2, rounds=rounds, local_steps=50)


@pytest.mark.parametrize(
    ("step_s", "n_cores", "rounds"),
    [
        (0.052, 2, 12),  # a Zen 4 or 5 with bfloat16
        (0.1, 2, MIN_ROUNDS),  # a Zen 3
        (0.06, 64, 14),  # three sites use three cores
        (0.001, 2, 24),
        (10.0, 2, MIN_ROUNDS),
    ],
)
def test_a_slow_machine_trains_fewer_rounds(step_s: float, n_cores: int, rounds: int) -> None:
    assert rounds_within(DEMO_TRAINING_S, federation(), step_s=step_s, n_cores=n_cores) == rounds


def test_what_the_sites_do_after_the_rounds_takes_its_time_from_them() -> None:
    without = federation()
    adapting = without.model_copy(update={"adaptation": AdaptationSettings(steps=100)})
    twice = without.model_copy(update={"adaptation": AdaptationSettings(steps=100, rates=(1e-3, 2e-3))})
    found = [rounds_within(100.0, each, step_s=0.03, n_cores=2) for each in (without, adapting, twice)]
    assert found == [17, 16, 14]  # a round takes 5.6 s, 100 steps of three sites 7.2 and the messages 2


def test_no_more_rounds_than_were_asked_for() -> None:
    assert rounds_within(1e6, federation(rounds=5), step_s=0.1, n_cores=2) == 5
    assert rounds_within(1.0, federation(rounds=5), step_s=0.1, n_cores=2) == 5


def test_a_step_is_timed_and_nothing_is_left_changed() -> None:
    threads, drawn = torch.get_num_threads(), torch.get_rng_state()
    assert 0.001 < seconds_of_a_step(federation()) < 60
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), drawn)
    assert MIN_ROUNDS <= rounds_here(DEMO_TRAINING_S, federation()) <= 24


def test_a_demonstration_without_time_says_that_it_is_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearsal = Rehearsal.declared(
        tmp_path / "demo", [], schedule=Schedule(24, 50, {"batch_size": 4}), scale=2, n_patients=10, seed=1
    )
    short = shortened(rehearsal, 1.0, quiet=False)
    assert short == replace(rehearsal, federation=short.federation)
    assert short.federation.rounds == MIN_ROUNDS
    assert "--rounds 24" in capsys.readouterr().err
    assert shortened(rehearsal, 1e9, quiet=False) is rehearsal
    assert capsys.readouterr().err == ""


def test_a_rehearsal_may_be_of_another_preset(tmp_path: Path) -> None:
    schedule = replace(SCHEDULES["demo"], preset="late")
    federation = Rehearsal.declared(
        tmp_path / "demo", [], schedule=schedule, scale=2, n_patients=10, seed=1
    ).federation
    assert (federation.model.architecture, federation.model.self_ensemble) == ("late-fusion", 4)
    assert (federation.training.batch_size, federation.adaptation) == (2, schedule.adaptation)


def test_a_schedule_may_have_a_batch_of_its_own(tmp_path: Path) -> None:
    rehearsals = [
        Rehearsal.declared(
            tmp_path / "demo", [], schedule=Schedule(24, 50, training), scale=2, n_patients=10, seed=1
        )
        for training in ({"batch_size": 4}, {})
    ]
    assert [one.federation.training.batch_size for one in rehearsals] == [4, 8]
