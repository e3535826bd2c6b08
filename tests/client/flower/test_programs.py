"""What a site's node does before it is Flower's: one process is the node, and it signs off the one before it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from client.admission.keys import make_site_keys
from client.admission.tls import TlsFiles
from client.flower import programs
from client.flower.programs import _claimed, _note, _sign_off, fleet_client
from minet_core.errors import HostError


class Server:
    """Notes what it is asked, in place of Flower's client."""

    asked: list[int]

    def __init__(self) -> None:
        self.asked = []

    def from_server_address(self, address: str, insecure: bool, root: bytes, **_options: Any) -> Server:
        assert (address, insecure, root) == ("coordinator:9443", False, b"an authority")
        return self

    def DeactivateNode(self, request: Any) -> None:  # noqa: N802
        self.asked.append(request.node_id)

    def close(self) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    keys = make_site_keys(tmp_path / "keys", name="sms")
    (tmp_path / "ca.pem").write_bytes(b"an authority")
    options = {
        "--superlink": "coordinator:9443",
        "--root-certificates": str(tmp_path / "ca.pem"),
        "--auth-supernode-private-key": str(keys.private_key),
    }
    argv = [word for option in options.items() for word in option]
    monkeypatch.setattr(sys, "argv", ["flower-supernode", *argv, "--isolation", "process"])
    monkeypatch.setattr(programs, "OFFLINE_S", 0.0)
    return server


def test_the_former_node_is_signed_off(server: Server, tmp_path: Path) -> None:
    former = _claimed(tmp_path / "node")
    assert former is not None
    _note(former, tmp_path, 12)
    _note(former, tmp_path, 12345678901234567890)  # the server may give another number later
    former.close()  # as when its process was killed
    node = _claimed(tmp_path / "node")
    assert node is not None
    _sign_off(node, server)  # type: ignore[arg-type]
    assert server.asked == [12345678901234567890]
    node.close()


def test_at_the_first_start_there_is_nothing_to_sign_off(server: Server, tmp_path: Path) -> None:
    node = _claimed(tmp_path / "node")
    assert node is not None
    _sign_off(node, server)  # type: ignore[arg-type]
    assert server.asked == []
    node.close()


def test_a_living_node_is_not_signed_off_by_another_process_of_its_site(tmp_path: Path) -> None:
    node = _claimed(tmp_path / "node")
    assert node is not None
    assert _claimed(tmp_path / "node") is None
    node.close()


def test_our_own_options_are_taken_out_before_flower_reads_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    flowers = ["--superlink", "coordinator:443", "--root-certificates", "kit/ca.pem", "--host", "127.0.0.1"]
    ours = ["--client-certificate", "kit/site.pem", "--client-key", "keys/tls.key"]
    monkeypatch.setattr(sys, "argv", ["flower-supernode", *flowers[:2], *ours, *flowers[2:]])
    files = programs._taken_tls_files()
    assert files == TlsFiles(Path("kit/ca.pem"), Path("kit/site.pem"), Path("keys/tls.key"))
    assert sys.argv == ["flower-supernode", *flowers]


def test_a_node_connects_by_tls_alone(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "ca.pem", tmp_path / "site.pem", tmp_path / "tls.key")
    for insecure, roots in ((True, None), (False, None)):
        with pytest.raises(HostError, match="by TLS alone"):
            fleet_client(files).from_server_address("coordinator:443", insecure, roots, [])
