"""The unit and the packet filter that are shipped for a machine without containers (docker/systemd)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "docker" / "systemd"
RULES = (SYSTEMD / "fedminet-walls.nft").read_text(encoding="utf-8")
UNIT = SYSTEMD / "fedminet-server.service"

WHO_CONNECTS = """
import encodings.idna, os, socket, sys  # what another user could not read any more
listener = socket.create_server(("127.0.0.1", 9443))
other = socket.create_server(("127.0.0.1", 9444))
for user, port in ((int(u), int(p)) for u, _, p in (pair.partition(":") for pair in sys.argv[1:])):
    child = os.fork()
    if child == 0:
        os.setuid(user)
        try:
            socket.create_connection(("127.0.0.1", port), timeout=3)
        except OSError:
            os._exit(1)
        os._exit(0)
    print(user, port, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0)
"""
"""Prints which user reaches which port of loopback."""


def _in_a_network_of_its_own(rules: str) -> list[str]:
    pairs = " ".join(f"{user}:{port}" for port in (9443, 9444) for user in (0, 4001, 4002, 4003))
    script = f'ip link set lo up && nft -f - && {sys.executable} -I -c "$PROGRAM" {pairs}'
    done = subprocess.run(
        ["unshare", "--net", "bash", "-ec", script],
        env={**os.environ, "PROGRAM": WHO_CONNECTS},
        input=rules,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return [line.removesuffix(" True") for line in done.stdout.splitlines() if line.endswith("True")]


def test_no_other_user_of_the_machine_reaches_the_servers_port() -> None:
    if os.geteuid() != 0 or not all(map(shutil.which, ("nft", "unshare", "ip"))):
        pytest.skip("needs root, nft, ip and unshare")
    if subprocess.run(["unshare", "--net", "nft", "list", "ruleset"], capture_output=True).returncode != 0:
        pytest.skip("this machine's kernel gives no network and packet filter of its own")
    rules = RULES.replace("= fedminet\n", "= 4001\n").replace("= www-data\n", "= 4002\n")
    others = [f"{user} 9444" for user in (0, 4001, 4002, 4003)]
    assert _in_a_network_of_its_own(rules) == ["0 9443", "4001 9443", "4002 9443", *others]
    everybody = [f"{user} 9443" for user in (0, 4001, 4002, 4003)]
    assert _in_a_network_of_its_own("") == [*everybody, *others]  # the control
    assert _in_a_network_of_its_own(rules + rules.replace("define", "redefine")) == [
        "0 9443",
        "4001 9443",
        "4002 9443",
        *others,
    ]


def test_systemd_takes_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    text = re.sub(r"^(ExecStart(?:Pre)?=\+?)\S+.*$", r"\1/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    unit = tmp_path / UNIT.name
    for content, is_right in ((text, True), (text.replace("[Service]", "[Service]\nNoSuchThing=yes"), False)):
        unit.write_text(content)
        done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True)
        assert (UNIT.name not in done.stderr) == is_right, done.stderr
    unit.write_text(text)
    command = [analyze, "security", "--offline=true", "--threshold=15", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr
