"""The coordinator's and the site's commands of admission, called as the console script does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedminet.main import run
from server.admission.init_server import with_local_name
from server.admission.passphrase import read_passphrase
from server.server_home import ServerHome, local_address
from tests.support.admitted import PASSPHRASE

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fedminet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    (tmp_path / "passphrase").chmod(0o600)
    monkeypatch.setenv("FEDMINET_CA_PASSPHRASE_FILE", str(tmp_path / "passphrase"))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fedminet", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            run()
        captured = capsys.readouterr()
        return int(ending.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def home(fedminet: Call, tmp_path: Path) -> Path:
    path = tmp_path / "coordinator"
    assert fedminet("server", "init", path, "--site", "sms", "--public-port", "443")[0] == 0
    return path


@pytest.fixture
def site(fedminet: Call, tmp_path: Path) -> Path:
    path = tmp_path / "sms"
    assert fedminet("site", "init", path, "--definition", "sms")[0] == 0
    return path


def _spoken(printed: str) -> list[str]:
    """The lines of forty digits that a command printed."""
    return [line.strip() for line in printed.splitlines() if len(line.replace(" ", "")) == 40]


def test_a_server_behind_a_proxy_is_reached_from_its_own_machine(fedminet: Call, tmp_path: Path) -> None:
    home = tmp_path / "coordinator"
    assert fedminet("server", "init", home, "--host", "server.example.org", "--public-port", "443")[0] == 0
    settings = ServerHome.at(home).settings()
    assert settings.address == "server.example.org:443"  # what sites are told
    assert local_address(ServerHome.at(home)) == "localhost:9443"
    assert with_local_name(("10.0.0.7",), bind="10.0.0.7") == ("10.0.0.7",)
    assert with_local_name(("localhost", "server.example.org"), bind="127.0.0.1")[0] == "localhost"


def test_a_site_is_admitted_renewed_and_revoked(
    fedminet: Call, home: Path, site: Path, tmp_path: Path
) -> None:
    (fingerprint,) = _spoken(fedminet("site", "request", site)[1])
    asked = ("--name", "sms", "--request", site / "request.json")
    status, printed, _ = fedminet(
        "server", "admit", home, *asked, "--fingerprint", fingerprint, "--kit", tmp_path / "kit"
    )
    assert status == 0
    (authority,) = _spoken(printed)
    assert "registers it once it is started" in printed
    status, printed, _ = fedminet("site", "accept", site, tmp_path / "kit", "--fingerprint", authority)
    assert (status, "is in use" in printed) == (0, True)
    assert json.loads((site / "kit" / "kit.json").read_text())["address"] == "127.0.0.1:443"

    status, printed, _ = fedminet("site", "renew", site)
    assert (status, "nothing is compared again" in printed) == (0, True)
    assert fedminet("server", "renew", home, "--name", "sms", "--kit", tmp_path / "next")[0] == 0
    assert fedminet("site", "accept", site, tmp_path / "next")[0] == 0
    assert fedminet("server", "renew-server", home)[0] == 0

    status, printed, _ = fedminet("server", "revoke", home, "--name", "sms", "--reason", "left the study")
    assert (status, "unregisters the node by itself" in printed) == (0, True)
    rows = json.loads(fedminet("server", "certificates", home, "--json")[1])
    assert [row["reason"] for row in rows if row["state"] == "revoked"] == ["left the study"]
    status, _, said = fedminet("server", "admit", home, *asked, "--kit", tmp_path / "again")
    assert (status, said.count("FM-F404"), "left the study" in said) == (5, 1, True)


def test_without_a_terminal_nobody_is_admitted_without_a_fingerprint(
    fedminet: Call, home: Path, site: Path, tmp_path: Path
) -> None:
    status, _, said = fedminet(
        "server",
        "admit",
        home,
        "--name",
        "sms",
        "--request",
        site / "request.json",
        "--kit",
        tmp_path / "kit",
    )
    assert (status, said.count("FM-C102")) == (2, 1)
    assert "--fingerprint" in said
    assert not (tmp_path / "kit").exists()


def test_without_a_terminal_no_first_kit_is_taken_without_a_fingerprint(
    fedminet: Call, home: Path, site: Path, tmp_path: Path
) -> None:
    (fingerprint,) = _spoken(fedminet("site", "request", site)[1])
    asked = ("--name", "sms", "--request", site / "request.json", "--fingerprint", fingerprint)
    assert fedminet("server", "admit", home, *asked, "--kit", tmp_path / "kit")[0] == 0
    status, _, said = fedminet("site", "accept", site, tmp_path / "kit")
    assert (status, said.count("FM-F404")) == (5, 1)


def test_a_wrong_passphrase_admits_nobody(fedminet: Call, home: Path, site: Path, tmp_path: Path) -> None:
    (fingerprint,) = _spoken(fedminet("site", "request", site)[1])
    (tmp_path / "wrong").write_text("another passphrase")
    (tmp_path / "wrong").chmod(0o600)
    asked = ("--name", "sms", "--request", site / "request.json", "--fingerprint", fingerprint)
    status, _, said = fedminet(
        *("server", "admit", home, *asked, "--kit", tmp_path / "kit"),
        *("--passphrase-file", tmp_path / "wrong"),
    )
    assert (status, "does not open the authority's key" in said) == (2, True)
    assert not list((home / "sites").glob("*.pub"))


def test_the_passphrase_is_changed_and_the_former_opens_nothing(
    fedminet: Call, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").write_text("five words of another trial")
    files = ("--former-file", tmp_path / "passphrase", "--new-file", tmp_path / "new")
    assert fedminet("server", "passphrase", home, *files)[0] == 0
    assert fedminet("server", "renew-server", home)[0] == 2
    assert fedminet("server", "renew-server", home, "--passphrase-file", tmp_path / "new")[0] == 0


def test_a_short_passphrase_makes_no_coordinator(fedminet: Call, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("secret")
    (tmp_path / "short").chmod(0o600)
    status, _, said = fedminet("server", "init", tmp_path / "other", "--passphrase-file", tmp_path / "short")
    assert (status, "too short" in said) == (2, True)
    assert not (tmp_path / "other").exists()


def test_the_certificates_are_listed_with_their_days(fedminet: Call, home: Path) -> None:
    status, printed, said = fedminet("server", "certificates", home)
    assert (status, said) == (0, "")
    assert "the server's certificate: valid" in printed


def test_the_passphrase_is_asked_for_twice_where_it_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDMINET_CA_PASSPHRASE_FILE", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    typed = iter([PASSPHRASE, PASSPHRASE, PASSPHRASE, "another passphrase"])
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))
    assert read_passphrase(None, new=True) == PASSPHRASE
    with pytest.raises(Exception, match="differ"):
        read_passphrase(None, new=True)
