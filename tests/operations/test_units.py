"""The two systemd units, as they are shipped, run a federation under a systemd of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedminet.single_machine.admission import admit_here, make_coordinator_here
from server.server_home import ServerSettings
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation
from tests.support.repository import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SCRIPT = Path(__file__).with_name("units_under_systemd.sh")
NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")


def _require_systemd() -> None:
    if os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists():
        pytest.skip("needs root and systemd")
    if not all(map(shutil.which, ("unshare", "nft", "ip", "runuser"))):
        pytest.skip("needs unshare, nft, ip and runuser")
    if not Path("/sys/fs/cgroup/systemd").is_dir():
        pytest.skip("this machine gives no control groups to a second systemd")


def _site_unit() -> str:
    page = (ROOT / "docs" / "operations" / "hospital.md").read_text(encoding="utf-8")
    return re.search(r"```ini\n(\[Unit\]\nDescription=fedminet site\n.*?)```", page, flags=re.DOTALL)[1]  # type: ignore[index]


def test_a_federation_runs_by_the_units_that_are_shipped(tmp_path: Path) -> None:
    """What they forbid is not needed, the packet filter is loaded, and a stop leaves neither failed nor a process."""
    _require_systemd()
    federation = tiny_federation(sites=("sms",), rounds=1, participation={"quorum": 1, "deadline_s": 120.0})
    made, srv, units = tmp_path / "made", tmp_path / "srv", tmp_path / "units"
    for folder in (made, srv, units, tmp_path / "out"):
        folder.mkdir()
    server, authority = make_coordinator_here(srv / "coordinator", federation, ServerSettings())
    homes = make_tiny_sites(made, names=("sms",))
    homes["sms"].path.rename(srv / "sms")
    admit_here(server, authority, {"sms": type(homes["sms"])(srv / "sms")})
    shutil.copy(ROOT / "docker" / "systemd" / "fedminet-server.service", units)
    (units / "fedminet-site.service").write_text(_site_unit())
    done = subprocess.run(
        ["unshare", *NAMESPACES, SCRIPT, tmp_path, ROOT, sys.base_prefix],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    seen = (tmp_path / "out" / "seen").read_text().splitlines() if done.returncode == 0 else []
    assert seen == [
        "root reaches",
        "fedminet reaches",
        "www-data reaches",
        "ran",
        "fedminet-site restarts: 0",
        "fedminet-site: success inactive",
        "fedminet-server restarts: 0",
        "fedminet-server: success inactive",
        "left: 0",
    ], done.stdout + done.stderr + (tmp_path / "out" / "log").read_text()[-6000:]
