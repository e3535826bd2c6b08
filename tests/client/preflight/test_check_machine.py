"""Disk, device and port: what the check before a start refuses of each."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch

from client.preflight.check_machine import LOG_BYTES, check_device, check_disk, check_port
from client.preflight.preflight import require_ready
from client.rounds.round_cache import kept_round_bytes
from client.site_home import SiteHome
from minet_core.errors import DiskFull, PortInUse
from minet_core.runtime.processes.child_processes import free_port
from tests.faults.tiny_sites import tiny_federation


def test_a_disk_with_room_passes_and_one_without_is_refused(home: SiteHome) -> None:
    """A model of 40,000 features needs terabytes, which are computed and not allocated."""
    assert check_disk(home, tiny_federation()).level != "refusal"
    large = tiny_federation(model={"n_groups": 6, "n_blocks": 6, "n_features": 40_000, "reduction": 2})
    finding = check_disk(home, large)
    assert finding.code == "FM-S504"
    assert float(str(finding.expected).split()[2]) * 1e9 > 3 * kept_round_bytes(large)
    assert 3 * kept_round_bytes(large) > LOG_BYTES
    with pytest.raises(DiskFull):
        require_ready([finding])


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    assert check_disk(SiteHome(tmp_path / "missing"), tiny_federation()).code == "FM-S518"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_site_that_asks_for_a_gpu_is_refused_without_one(home: SiteHome) -> None:
    assert check_device("auto").level == "note"
    assert check_device("cpu").level == "note"
    assert check_device("cuda").code == "FM-S521"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_named_with_its_memory() -> None:
    finding = check_device("cuda")
    assert finding.level == "ok"
    assert torch.cuda.get_device_name(0) in finding.got
    assert "GB free" in finding.got


def test_a_port_in_use_is_refused() -> None:
    assert check_port("127.0.0.1", 0).level == "ok"
    assert check_port("127.0.0.1", free_port()).level == "ok"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        finding = check_port("127.0.0.1", listener.getsockname()[1])
    assert finding.code == PortInUse.code
