"""What people do wrong is answered in their words: which file, which patient, which line, and what to do."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from client.admission.init_site import init_site
from client.admission.kit_folder import copied_kit
from client.site_home import SiteHome
from fedminet import main
from minet_core.admission.request import read_request
from minet_core.errors import (
    ConfigurationError,
    DiskFull,
    FileMissing,
    HostError,
    InvalidSetting,
    NoScansFound,
)
from minet_core.settings.federation import FederationSettings
from minet_core.settings.presets import federation_of
from minet_core.settings.yaml_file import parse_settings, read_settings
from server.backup import database as copying
from server.backup.create import back_up
from server.server_home import ServerHome, ServerSettings
from sites.ingest_plan import plan_ingest
from sites.settings.definitions import definition_text
from sites.settings.site_settings import SiteSettings

MINIMAL = "name: study\nsites: [sms, umr]\nparticipation: {quorum: 2}\n"


def refused(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "federation.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as failure:
        read_settings(path, FederationSettings)
    return str(failure.value)


def test_a_line_that_is_not_yaml_is_named_by_its_number(tmp_path: Path) -> None:
    message = refused(tmp_path, MINIMAL.encode() + b"training:\n\tseed: 1\n")
    assert "line 5, column 1" in message
    assert "<" not in message  # PyYAML says: in "<unicode string>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\xff\xfe\x00", "text in UTF-8"),
        (MINIMAL.replace("umr", "UMR").encode(), "small letters"),
    ],
)
def test_what_a_settings_file_holds_is_said_without_words_of_python(
    tmp_path: Path, content: bytes, said: str
) -> None:
    message = refused(tmp_path, content)
    assert said in message
    assert not any(word in message for word in ("NoneType", "codec", "pattern", "^["))


def test_what_is_wrong_of_several_keys_is_said_without_all_of_them(tmp_path: Path) -> None:
    message = refused(tmp_path, MINIMAL.replace("umr", "sms").encode())
    assert "a site is named twice" in message
    assert "{" not in message
    assert "value error" not in message.lower()


@pytest.mark.parametrize("host", ["https://server.example.org", "server:9443", "two words", ""])
def test_a_host_that_no_site_could_reach_is_refused_before_its_certificate(host: str) -> None:
    with pytest.raises(InvalidSetting, match="name or address of a machine"):
        parse_settings({"hosts": [host]}, ServerSettings, source="the options")
    with pytest.raises(InvalidSetting):
        parse_settings({"bind": host}, ServerSettings, source="the options")


@pytest.mark.parametrize("host", ["server.example.org", "10.0.0.7", "fd00::7", "[::1]", "ward_7", "x"])
def test_names_and_addresses_of_machines_are_taken(host: str) -> None:
    assert parse_settings({"hosts": [host]}, ServerSettings, source="the options").hosts == (host,)


def test_no_rounds_are_not_the_presets_rounds() -> None:
    with pytest.raises(InvalidSetting, match="rounds"):
        federation_of(name="study", sites=("sms",), preset="quick", scale=2, rounds=0)


def test_a_back_up_is_not_written_where_its_disk_is_not_mounted(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="Mount the disk"):
        back_up(ServerHome(tmp_path / "coordinator"), tmp_path / "mnt" / "backup.tar")
    assert not (tmp_path / "mnt").exists()


@pytest.mark.parametrize(("code", "expected"), [(sqlite3.SQLITE_FULL, DiskFull), (0x10B, HostError)])
def test_a_full_disk_is_no_damaged_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[HostError]
) -> None:
    def fail(_database: Path, _copy: Path) -> None:
        failure = sqlite3.OperationalError("database or disk is full")
        failure.sqlite_errorcode = code
        raise failure

    monkeypatch.setattr(copying, "_copy", fail)
    with pytest.raises(HostError) as ending, copying.copied_database(tmp_path / "a", beside=tmp_path / "b"):
        pass
    assert type(ending.value) is expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reader", "name", "content", "expected"),
    [
        ("nifti", "0001", b"\0" * 128 + b"DICM", "1 DICOM files.*reader: dicom"),
        ("nifti", "file1.h5", b"", "1 HDF5 files.*reader: fastmri"),
        ("dicom", "T1.nii.gz", b"", "1 NIfTI files.*reader: nifti"),
        ("dicom", "notes.txt", b"", "fedminet site scan"),
    ],
)
def test_scans_of_another_reader_are_named(
    tmp_path: Path, reader: str, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / name).write_bytes(content)
    page = {"name": "ward", "title": "Ward", "data_kind": "real", "reader": reader, "split": {"seed": 1}}
    settings = parse_settings(
        page | {"roles": {"target": "T2", "reference": "T1"}}, SiteSettings, source="site.yaml"
    )
    with pytest.raises(NoScansFound, match=expected):
        plan_ingest(tmp_path / "export", settings, headers=True)


def test_a_file_in_place_of_the_folder_is_called_a_file(tmp_path: Path) -> None:
    (tmp_path / "T1.nii.gz").touch()
    (tmp_path / "site.yaml").write_text(definition_text("sms"))
    settings = read_settings(tmp_path / "site.yaml", SiteSettings)
    with pytest.raises(FileMissing, match=r"T1\.nii\.gz, a file"):
        plan_ingest(tmp_path / "T1.nii.gz", settings)


def test_the_kits_folder_and_a_definition_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="folder is missing"):
        copied_kit(SiteHome(tmp_path / "site"), tmp_path / "kit-sms")
    with pytest.raises(FileMissing, match="fastmri"):
        init_site(tmp_path / "site", chosen="ward")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("content", [b"name: sms\n", b"[]"])
def test_another_file_than_the_request_is_answered_with_which(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "site.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"no request.*request\.json"):
        read_request(tmp_path / "site.yaml")


def run_with(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> int:
    def command_line(_group: str | None) -> object:
        import typer

        app = typer.Typer(pretty_exceptions_enable=False)

        @app.command()
        def fail() -> None:
            raise failure

        return app

    monkeypatch.setattr(sys, "argv", ["fedminet"])
    monkeypatch.setattr(main, "command_line", command_line)
    with pytest.raises(SystemExit) as ending:
        main.run()
    return int(ending.value.code or 0)


def test_ctrl_c_is_answered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with(monkeypatch, KeyboardInterrupt()) == main.INTERRUPTED
    assert "Interrupted" in capsys.readouterr().err


def test_a_file_that_no_command_looks_after_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, FileNotFoundError(2, "No such file or directory", "/proc/coordinator")) == 6
    assert "/proc/coordinator" in capsys.readouterr().err


def test_another_users_folder_is_answered_by_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root may read every folder, so click and the system are told that this one may not be read."""

    def is_file(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.access", lambda *_asked, **_named: False)
    monkeypatch.setattr(Path, "is_file", is_file)
    monkeypatch.setattr(sys, "argv", ["fedminet", "site", "status", str(tmp_path)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    said = capsys.readouterr().err
    assert ending.value.code == 6
    assert said.startswith("FM-S510")
    assert "mode 0700; this is user" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment", "worth", "--blur", "nan"],
        ["experiment", "worth", "--head-rate", "inf"],
        ["experiment", "patients", "--rate", "nan"],
        ["experiment", "patients", "--rate", "inf"],
        ["site", "start", "--wait", "inf"],
    ],
    ids=" ".join,
)
def test_what_is_no_finite_number_is_refused_at_once(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies within every range: scans were made for minutes, and then came a traceback."""
    monkeypatch.setattr(sys, "argv", ["fedminet", *arguments])
    with pytest.raises(SystemExit) as ending:
        main.run()
    assert ending.value.code == 2
    assert f"'{arguments[-2]}': {arguments[-1]} is no finite number" in capsys.readouterr().err


def test_a_dicom_file_in_place_of_its_folder_is_called_so(tmp_path: Path) -> None:
    """An enhanced object is a whole series in one file: people name the file."""
    for name in ("t2.dcm", "t1"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    options = [
        "--model",
        "m.safetensors",
        "--target",
        str(tmp_path / "t2.dcm"),
        "--reference",
        str(tmp_path / "t1"),
    ]
    said = CliRunner().invoke(main.command_line(), ["infer", *options, "--out", str(tmp_path / "new")])
    assert isinstance(said.exception, InvalidSetting)
    assert "a DICOM file is given in place of its series" in str(said.exception)
    assert "t2.dcm; expected for each scan the folder of one series" in str(said.exception)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["server", "start", "--help"], 0, "HOME  [required]"),
        (["experiment", "worth", "--help"], 0, "[default: 2,7]"),
        (["experiment", "table3"], 2, "No such command 'table3'."),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else None,
)
def test_a_page_of_help_is_plain_text_and_a_suggestion_is_made_once(
    arguments: list[str],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["fedminet", *arguments])
    with pytest.raises(SystemExit) as ending:
        main.run()
    shown = "".join(capsys.readouterr())
    assert ending.value.code == status
    assert said in shown
    assert "\\" not in shown
    assert shown.count("Did you mean") <= 1


def test_each_line_of_a_page_of_commands_is_whole_at_80_columns() -> None:
    """Two of three ended with "..." in the middle of a sentence."""
    cut = [
        line
        for line in _lines_of_commands(typer.main.get_command(main.command_line()))
        if line.endswith("...")
    ]
    assert not cut


def _lines_of_commands(group: click.Command) -> Iterator[str]:
    commands = getattr(group, "commands", {})
    for name, command in commands.items():
        yield f"{name}: {command.get_short_help_str(72 - max(map(len, commands)))}"
        yield from _lines_of_commands(command)
