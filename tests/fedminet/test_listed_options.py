"""Options that list words or numbers: what is none is refused before anything is made, and the option is named."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from fedminet import main
from fedminet.listed_options import listed_rates, listed_whole_numbers, listed_words
from minet_core.errors import ConfigurationError, InvalidSetting
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import ParticipationSettings, TrainingSettings, TroubleSettings
from minet_core.settings.yaml_file import Settings, parse_settings


def test_a_list_is_read_with_blanks_and_each_once() -> None:
    assert listed_whole_numbers("2, 7,2", option="--own") == (2, 7)
    assert listed_rates("3e-4, 1e-3,3e-4", option="--adapt-rate") == (3e-4, 1e-3)
    assert listed_words("minet, sinc", option="--methods", known=("sinc", "minet")) == ("minet", "sinc")


WORTH, TABLE1 = ["experiment", "worth"], ["experiment", "table1"]
NO_LISTS = [
    *[
        [*WORTH, "--adapt-rate", text]
        for text in ("nan", "1e-3,inf", "-inf", "0", "-1", "1e-3,", "", "1e999")
    ],
    *[
        [*WORTH, "--own", text]
        for text in ("nan", "inf", "0", "-1", "2,", "", "1e3", "\N{ARABIC-INDIC DIGIT TWO}")
    ],
    *[[*WORTH, "--worth-seeds", text] for text in ("nan", "0", "1,,2", "9" * 5000)],
    *[[*TABLE1, "--scale", text] for text in ("2,nan", "inf", "3", ",")],
    *[[*TABLE1, "--methods", text] for text in ("minet,,sinc", "nan", ",")],
    [*TABLE1, "--mode", "federated,"],
    ["experiment", "patients", "--scale", "nan"],
    ["experiment", "patients", "--methods", "minet,nan"],
    ["experiment", "gate", "--scale", "inf"],
    ["experiment", "gate", "--methods", ","],
    *[["bench", "ingest", "--seeds", text] for text in ("nan", "-1", "71,,72", "9" * 5000)],
    *[["bench", "steps", "--batch-size", text] for text in ("nan", "0", "1,inf", "9" * 5000)],
    ["bench", "steps", "--methods", "minet,"],
    ["bench", "steps", "--ways", "nan"],
    ["simulate", "--compare", "pooled,,local"],
]


@pytest.mark.parametrize("arguments", NO_LISTS, ids=lambda arguments: " ".join(arguments)[:60])
def test_what_is_no_list_is_refused_in_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedminet", *arguments])
    with pytest.raises(SystemExit) as ending:
        main.run()
    said = capsys.readouterr().err
    assert ending.value.code == 2, said
    assert arguments[-2] in said
    assert "got" in said
    assert "expected" in said
    assert len(said.splitlines()) == 1
    assert len(said) < 600
    assert not list(tmp_path.iterdir()), "something was made first"


@pytest.mark.parametrize("value", [math.inf, math.nan], ids=str)
@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (TrainingSettings, "learning_rate"),
        (TrainingSettings, "clip_norm"),
        (TrainingSettings, "alpha"),
        (TrainingSettings, "beta"),
        (TrainingSettings, "local_seconds"),
        (AdaptationSettings, "learning_rate"),
        (AdaptationSettings, "head_learning_rate"),
        (AdaptationSettings, "rates"),
        (ParticipationSettings, "deadline_s"),
        (TroubleSettings, "max_shift_px"),
        (TroubleSettings, "max_bend_px"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_federation_file_has_finite_numbers(settings: type[Settings], key: str, value: float) -> None:
    """`.inf` is YAML, and a rate of it was found by the weights that came back."""
    content: dict[str, object] = {key: [value] * 2 if key == "rates" else value}
    if key == "local_seconds":
        content["local_steps"] = None
    if settings is ParticipationSettings:
        content["quorum"] = 1
    with pytest.raises(InvalidSetting, match=rf"{key}.*finite number"):
        parse_settings(content, settings, source="federation.yaml")


def test_a_rate_that_is_none_names_its_option() -> None:
    with pytest.raises(ConfigurationError, match=r"FM-C100: --adapt-rate is not understood; got 'nan'"):
        listed_rates("nan", option="--adapt-rate")
