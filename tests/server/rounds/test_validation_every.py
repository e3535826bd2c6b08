"""`training.validation_every`: rounds whose model no site scores, and which train as they would have."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedminet.simulation.simulate import federate_untested
from minet_core.checkpoint import load_checkpoint
from minet_core.errors import InvalidSetting, ReplyRefused
from minet_core.protocol import messages
from minet_core.settings.federation import FederationSettings
from server.runs.records import RoundLine
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation

TRAINING = {"local_steps": 1, "patch_px": 16, "batch_size": 1, "validation_slices": 1}


def _federation(*, every: int) -> FederationSettings:
    return tiny_federation(
        rounds=4,
        training={**TRAINING, "validation_every": every},
        quarantine={"roll_back": every == 1},
    )


def test_the_rounds_that_are_due_are_validated_and_all_train_as_before(tmp_path: Path) -> None:
    homes = make_tiny_sites(tmp_path / "made")
    models, validated = {}, {}
    for every in (1, 2):
        folder = tmp_path / f"every{every}"
        model = federate_untested(folder, _federation(every=every), homes, lambda *_: None)
        models[every] = load_checkpoint(model)[0]
        lines = (model.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [RoundLine.model_validate_json(line) for line in lines]
        validated[every] = [
            record.round for record in records if all(site.validation for site in record.sites.values())
        ]
        assert all(site.train_loss is not None for record in records for site in record.sites.values())
    assert validated == {1: [1, 2, 3, 4], 2: [1, 3, 4]}
    assert all(tensor.equal(models[2][name]) for name, tensor in models[1].items())


def test_scores_in_a_round_without_validation_are_refused_as_not_agreed() -> None:
    scored = {name: 1 if figure.whole else 0.5 for name, figure in messages.TRAIN_FIGURES.items()}
    assert messages.checked_figures(scored, agreed=messages.train_figures(validated=True))
    with pytest.raises(ReplyRefused, match="not agreed"):
        messages.checked_figures(scored, agreed=messages.train_figures(validated=False))
    unscored = {name: value for name, value in scored.items() if not name.startswith("validation_")}
    assert messages.checked_figures(unscored, agreed=messages.train_figures(validated=False))
    with pytest.raises(ReplyRefused, match="lacks the figure"):
        messages.checked_figures(unscored, agreed=messages.train_figures(validated=True))


def test_a_file_without_the_key_has_the_digest_that_it_had() -> None:
    plain = tiny_federation(training=TRAINING)
    assert tiny_federation(training={**TRAINING, "validation_every": 1}).digest() == plain.digest()
    assert _federation(every=4).digest() != _federation(every=1).digest()


def test_no_round_can_be_taken_back_that_nobody_judged() -> None:
    with pytest.raises(InvalidSetting, match=r"quarantine\.roll_back: false"):
        tiny_federation(training={**TRAINING, "validation_every": 2})
