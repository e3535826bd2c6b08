"""YAML files: closed to unknown keys, and every refusal names the file, the key and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minet_core.errors import ConfigurationError, FileMissing, InvalidSetting, UnknownKey
from minet_core.settings.federation import PRESETS, FederationSettings
from minet_core.settings.yaml_file import parse_yaml, read_settings, settings_text, write_settings

MINIMAL = "name: study\nsites: [sms, umr]\nparticipation: {quorum: 2}\n"


def read(tmp_path: Path, text: str) -> FederationSettings:
    path = tmp_path / "federation.yaml"
    path.write_text(text)
    return read_settings(path, FederationSettings)


def test_what_a_text_says_is_the_readers_own() -> None:
    """A text that was parsed before is not parsed again; who changes what he got changes nothing for the next."""
    text = "limits: {most: [1, 2]}\n"
    parse_yaml(text)["limits"]["most"].append(3)
    assert parse_yaml(text) == {"limits": {"most": [1, 2]}}


def test_a_minimal_file_takes_the_defaults(tmp_path: Path) -> None:
    federation = read(tmp_path, MINIMAL)
    assert (federation.scale, federation.training.learning_rate) == (2, 2e-3)


def test_an_unknown_key_is_refused_and_the_nearest_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownKey, match=r"FM-C101.*'participation.qorum'.*Did you mean 'quorum'\?"):
        read(tmp_path, MINIMAL.replace("quorum", "qorum"))


def test_an_unknown_key_of_a_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownKey, match=r"training\.lerning_rate.*'learning_rate'"):
        read(tmp_path, MINIMAL + "training: {lerning_rate: 0.1}\n")


@pytest.mark.parametrize(
    "line",
    ["scale: 3", "rounds: 0", "participation: {quorum: 3}", "participation: {quorum: 1, required: [ward]}",
     "participation: {quorum: 1, min_share: 1.5}", "local_work: {ward: {local_steps: 1}}",
     "local_work: {sms: {}}", "sites: [sms, sms]", "sites: ['../x', umr]", "seed: -1", "rounds: many",
     "training: {local_steps: 5, local_epochs: 5}", "training: {local_steps: null}", "name: 'Bad Name'"],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused(tmp_path: Path, line: str) -> None:
    key = line.split(":")[0]
    kept = "".join(f"{other}\n" for other in MINIMAL.splitlines() if not other.startswith(key))
    with pytest.raises(InvalidSetting, match="FM-C102"):
        read(tmp_path, kept + line + "\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"absent\.yaml"):
        read_settings(tmp_path / "absent.yaml", FederationSettings)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "", "\x00"])
def test_what_is_not_settings_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"federation\.yaml"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rounds: 010", "line 4, column 9: 010 is read as another number"),
        ("seed: -010_0", "-010_0 is read as another number"),
        ("rounds: 1:30", "1:30 is read as another number"),
        ("training: {learning_rate: 1:30.5}", "1:30.5 is read as another number"),
        ("rounds: 3\nscale: 2\nrounds: 7", "line 6, column 1: the key rounds is there twice"),
        ("quarantine: {refuse_norm: true, 'refuse_norm': false}", "the key refuse_norm is there twice"),
    ],
)
def test_what_two_readers_of_yaml_read_differently_is_refused(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        read(tmp_path, f"{MINIMAL}{line}\n")


def test_a_key_that_stands_beside_a_merged_one_is_no_repetition() -> None:
    text = (
        "plain: &plain {scale: 2, rounds: 3}\nours: {<<: *plain, rounds: 7}\nnumbers: [0, 1_000, 0x10, 0.5]\n"
    )
    assert parse_yaml(text)["ours"] == {"scale": 2, "rounds": 7}
    assert parse_yaml(text)["numbers"] == [0, 1000, 16, 0.5]
    assert parse_yaml("id: '010'\nat: '1:30'\n") == {"id": "010", "at": "1:30"}


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("rounds: yes", "rounds"),
        ("seed: off", "seed"),
        ("training: {local_steps: on}", "training.local_steps"),
        ("training: {clip_norm: true}", "training.clip_norm"),
    ],
)
def test_yes_and_no_are_no_numbers(tmp_path: Path, line: str, key: str) -> None:
    with pytest.raises(InvalidSetting, match=f"FM-C102.*{key}: true or false is there"):
        read(tmp_path, f"{MINIMAL}{line}\n")


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_written_settings_read_back_equal(tmp_path: Path, preset: str) -> None:
    model, training = PRESETS[preset]
    federation = FederationSettings(
        name="study", sites=("sms",), participation={"quorum": 1}, model=model, training=training
    )
    path = tmp_path / "federation.yaml"
    write_settings(path, federation)
    assert read_settings(path, FederationSettings) == federation
    assert "# aggregations" in settings_text(federation)


def test_a_file_has_no_keys_of_another_architecture() -> None:
    text = settings_text(PRESETS["late"][0])
    assert re.findall(r"^(\w+):", text, re.MULTILINE) == [
        "architecture",
        "n_blocks",
        "n_features",
        "use_reference",
        "bicubic_skip",
        "self_ensemble",
    ]
    assert "residual_scale" not in settings_text(PRESETS["quick"][0])


def test_the_digest_is_of_the_settings_and_not_of_the_layout(tmp_path: Path) -> None:
    plain = read(tmp_path, MINIMAL)
    reordered = read(
        tmp_path, "# a comment\nparticipation:\n  quorum:   2\nsites:\n- sms\n- umr\nname: study\n"
    )
    other = read(tmp_path, MINIMAL + "scale: 4\n")
    assert plain.digest() == reordered.digest() != other.digest()


def test_a_key_by_its_former_name_is_taken_once_more_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    former = f"{'least'}_share"
    text = f"name: study\nsites: [a, b]\nparticipation: {{quorum: 2, {former}: 0.25}}\n"
    (tmp_path / "federation.yaml").write_text(text, encoding="utf-8")
    settings = read_settings(tmp_path / "federation.yaml", FederationSettings)
    assert settings.participation.min_share == 0.25
    assert f"please rename {'least'}_ to min_ in {former}" in caplog.text
    read_settings(tmp_path / "federation.yaml", FederationSettings)
    assert len(caplog.records) == 1  # a site reads its file at every message
    both = text.replace("0.25}", "0.25, min_share: 0.5}")
    (tmp_path / "federation.yaml").write_text(both, encoding="utf-8")
    with pytest.raises(UnknownKey, match=former):
        read_settings(tmp_path / "federation.yaml", FederationSettings)


def test_many_former_keys_of_a_file_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    least, most = "least", "most"
    text = f"name: study\nsites: [a, b]\nparticipation: {{quorum: 2, {least}_share: 0.25}}\n"
    text += f"algorithm: {{{most}_share: 0.5}}\n"
    (tmp_path / "federation.yaml").write_text(text, encoding="utf-8")
    read_settings(tmp_path / "federation.yaml", FederationSettings, ours_to_edit=False)
    assert not caplog.records  # a kit is signed as it is
    read_settings(tmp_path / "federation.yaml", FederationSettings)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith(str(tmp_path / "federation.yaml"))
    assert f"please rename {least}_ to min_ and {most}_ to max_ in {least}_share, {most}_share" in said


@pytest.mark.parametrize(
    ("lines", "key", "said"),
    [
        ("model: {global_skip: true}", "model.global_skip", "Known keys: align_reference, architecture"),
        ("model: {n_feature: 8}", "model.n_feature", "Did you mean 'n_features'"),
        ("nothing_like_it: 1", "nothing_like_it", "Known keys: adaptation, algorithm"),
    ],
)
def test_the_nearest_key_is_one_of_the_same_part(tmp_path: Path, lines: str, key: str, said: str) -> None:
    with pytest.raises(UnknownKey, match=f"'{key}'.*{said}.*only another release has is to be taken out"):
        read(tmp_path, MINIMAL + lines + "\n")
