"""A federation in containers, as docker/compose.demo.yaml has it, and what the tests do to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.admission.declaration import declare
from client.site_home import SiteHome
from fedminet.single_machine.admission import admit_here
from fedminet.single_machine.demo import container_settings
from server.admission.init_server import init_server
from server.admission.pki import Authority, open_authority
from server.runs.run_directory import RunDirectory
from tests.containers.engine import Engine
from tests.containers.reference_run import SITES, ReferenceRun
from tests.support.repository import ROOT

COMPOSE = ROOT / "docker" / "compose.demo.yaml"
COORDINATOR_OFTEN_LOOKED_AT = Path(__file__).parent / "compose.health.coordinator.yaml"
PROJECT = "fedminet-test"
COORDINATOR_NAME = "coordinator.demo"
PASSPHRASE = "a passphrase of the tests"
USER = 10001

SERVICES = (
    "coordinator",
    "proxy",
    *(f"node-{site}" for site in SITES),
    *(f"trainer-{site}" for site in SITES),
)
HEALTHY_DEADLINE_S = 600.0
TRAINER_MEMORY_MIB = 2048

OUTBOUND_ONLY = """
table inet hospital {
  chain input { type filter hook input priority 0; policy drop; ct state established,related accept; iif lo accept; }
  chain output { type filter hook output priority 0; policy drop; oif lo accept; ct state established accept;
                 tcp dport 443 accept; }
}
"""
"""A hospital's firewall: connections to port 443 go out, and nothing comes in but their answers. Docker's own rules,
which answer for names on loopback, are in another table and stay."""

CUT = """
table inet cut {
  chain input { type filter hook input priority -10; policy drop; iif lo accept; }
  chain output { type filter hook output priority -10; policy drop; oif lo accept; }
}
"""


@dataclass(frozen=True)
class Prepared:
    """What a federation starts with; its authority, opened."""

    folder: Path
    authority: Authority


def prepared(folder: Path, reference: ReferenceRun) -> Prepared:
    """The folders of coordinator and sites, with the stores of the reference run and keys of their own."""
    made = folder / "made"
    homes = {}
    for site in SITES:
        source, home = reference.rehearsal.home(site).path, SiteHome(made / "sites" / site)
        home.make_folders()
        shutil.copy2(source / "site.yaml", home.path)
        shutil.copytree(source / "store", home.store, dirs_exist_ok=True)
        declare(home)
        homes[site] = home
    server = init_server(
        made / "coordinator",
        reference.rehearsal.federation,
        container_settings(COORDINATOR_NAME),
        passphrase=PASSPHRASE,
    )
    authority = open_authority(server.pki, PASSPHRASE)
    admit_here(server, authority, homes)
    _give_to_user(folder)
    return Prepared(folder, authority)


@dataclass(frozen=True)
class Federation:
    """A started federation."""

    engine: Engine
    images: dict[str, str]
    folder: Path
    authority: Authority

    @property
    def made(self) -> Path:
        return self.folder / "made"

    def compose(self, *arguments: str, timeout_s: float = 300.0) -> str:
        """What `docker compose ...` prints for this federation."""
        return self.engine.docker(
            *("compose", "--project-name", PROJECT, "--file", COMPOSE),
            *arguments,
            timeout_s=timeout_s,
        )

    def container(self, service: str) -> str:
        return f"{PROJECT}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(self.engine.docker("inspect", self.container(service)))
        assert isinstance(found, dict)
        return found

    def host_pid(self, service: str) -> int:
        """The process number, on this machine, of the container's first process."""
        return int(self.inspect(service)["State"]["Pid"])

    def address(self, service: str, network: str) -> str:
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks[f"{PROJECT}_{network}"]["IPAddress"])

    def exec(self, service: str, *arguments: str, timeout_s: float = 120.0) -> str:
        """What a command in a container prints."""
        return self.engine.docker("exec", self.container(service), *arguments, timeout_s=timeout_s)

    def works(self, *services: str) -> bool:
        """Whether each container passes its own check of health now: the engine looks every 15 s."""
        checks = ((name, self.inspect(name)["Config"]["Healthcheck"]["Test"][1:]) for name in services)
        return all(
            self.engine.tried("exec", self.container(name), *check).returncode == 0 for name, check in checks
        )

    def healthy(self, *services: str) -> bool:
        """Whether the engine says so."""
        return all(
            self.inspect(name)["State"].get("Health", {}).get("Status") == "healthy" for name in services
        )

    def wait(
        self, reached: Callable[[], bool], *, deadline_s: float, what: str, interval_s: float = 0.25
    ) -> float:
        """Wait until `reached()`; the seconds that took. Fails with the containers' last words."""
        began = time.monotonic()
        while not reached():
            if time.monotonic() - began > deadline_s:
                logs = self.compose("logs", "--tail", "15")
                raise AssertionError(f"waited {deadline_s:g} s in vain until {what}\n{logs}")
            time.sleep(interval_s)
        return time.monotonic() - began

    def sites_online(self) -> set[str]:
        """The sites that the coordinator has online."""
        done = self.engine.tried(
            "exec", self.container("coordinator"), "fedminet", "server", "status", "/coordinator", "--json"
        )
        if done.returncode != 0:
            return set()
        return {site for site, state in json.loads(done.stdout)["sites"].items() if state == "online"}

    def site_status(self, service: str) -> tuple[int, dict[str, Any]]:
        """Exit status and page of `fedminet site status` in a container of the site."""
        done = self.engine.tried(
            "exec", self.container(service), "fedminet", "site", "status", "/site", "--json"
        )
        assert done.returncode in (0, 1), done.stderr
        page = json.loads(done.stdout)
        assert isinstance(page, dict)
        return done.returncode, page

    def run(self, name: str) -> RunDirectory:
        return RunDirectory(self.made / "coordinator" / "runs" / name)

    def start_run(self, name: str) -> subprocess.Popen[str]:
        """Start the run `name` by the command that a coordinator gives; it ends with the run."""
        return subprocess.Popen(
            ["docker", "exec", self.container("coordinator"), *_run_command(name)],
            env={**os.environ, **self.engine.environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def state(self, name: str) -> dict[str, Any] | None:
        """The run's state as it is on the disk; None before it is there."""
        path = self.run(name).path / "state.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        assert isinstance(content, dict)
        return content

    def round_of(self, name: str) -> int:
        state = self.state(name)
        return 0 if state is None else int(state["round"])

    def ended(self, name: str) -> bool:
        state = self.state(name)
        return state is not None and state["status"] in ("completed", "partial", "failed")

    def start(self, service: str) -> None:
        """Start a container that was stopped, a node behind its firewall."""
        self.engine.docker("start", self.container(service))
        if service.startswith("node-"):
            self.load_rules(service, OUTBOUND_ONLY)

    def load_rules(self, service: str, rules: str) -> None:
        """Load nftables rules into the container's network."""
        self._nft(service, "-f", "-", stdin=rules)

    def drop_rules(self, service: str, table: str) -> None:
        self._nft(service, "delete", "table", "inet", table)

    def _nft(self, service: str, *arguments: str, stdin: str | None = None) -> None:
        subprocess.run(
            ["nsenter", "--target", str(self.host_pid(service)), "--net", "nft", *arguments],
            input=stdin,
            text=True,
            check=True,
        )

    def python_beside(self, service: str, program: str, *arguments: str, options: Sequence[str] = ()) -> str:
        """What a Python program prints that has the network of `service`, in a container of its own."""
        return self.python_in(f"container:{self.container(service)}", program, *arguments, options=options)

    def python_in(self, network: str, program: str, *arguments: str, options: Sequence[str] = ()) -> str:
        """The same with a network by its name."""
        return self.engine.docker(
            *("run", "--rm", "--interactive", "--network", network, "--user", "10001:10001", "--read-only"),
            *(
                "--cap-drop",
                "ALL",
                *options,
                "--entrypoint",
                "python",
                self.images["site"],
                "-I",
                "-",
                *arguments,
            ),
            stdin=program,
        )


@contextmanager
def federation_in_containers(engine: Engine, images: dict[str, str], start: Prepared) -> Iterator[Federation]:
    """Start the federation, each site behind a firewall that lets 443 out and nothing in; end it afterwards."""
    environment = {
        **engine.environment,
        "FEDMINET_DEMO": str(start.folder),
        "FEDMINET_COORDINATOR_IMAGE": images["coordinator"],
        "FEDMINET_SITE_IMAGE": images["site"],
        "FEDMINET_PROXY_IMAGE": images["proxy"],
        "FEDMINET_TRAINER_MEMORY": f"{TRAINER_MEMORY_MIB}m",
        "COMPOSE_ANSI": "never",
        "COMPOSE_PROGRESS": "quiet",
    }
    running = Federation(Engine(environment), images, start.folder, start.authority)
    running.compose("down", "--remove-orphans")
    try:
        running.compose("up", "--detach")
        for site in SITES:
            running.load_rules(f"node-{site}", OUTBOUND_ONLY)
        running.wait(
            lambda: running.healthy(*SERVICES),
            deadline_s=HEALTHY_DEADLINE_S,
            what="every container is healthy",
        )
        running.wait(
            lambda: running.sites_online() == set(SITES),
            deadline_s=HEALTHY_DEADLINE_S,
            what="every site is registered and online",
        )
        yield running
    finally:
        logs = running.engine.tried(
            "compose", "--project-name", PROJECT, "--file", COMPOSE, "logs", "--timestamps"
        )
        (start.folder / "containers.log").write_text(logs.stdout, encoding="utf-8")
        running.compose("down", "--remove-orphans", "--timeout", "10")


def _run_command(name: str) -> tuple[str, ...]:
    return ("fedminet", "server", "run", "/coordinator", "--name", name, "--json")


def _give_to_user(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
