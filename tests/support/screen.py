"""What the tests of the coordinator's screen share: a coordinator with runs conducted by the real server over sites
that answer as they are told, and the screen itself on a real port.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from fedminet.simulation.in_process_grid import InProcessGrid, server_identity
from minet_core.errors import FedminetError, StoreDamaged
from minet_core.protocol import messages
from minet_core.runtime.processes.child_processes import free_port
from minet_core.settings.federation import FederationSettings
from server.admission.init_server import init_server
from server.dashboard.control_routes import Access
from server.dashboard.serve import Binding, server_of
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome, ServerSettings
from tests.faults.trial_sites import TRIAL_SITES, trial_federation, trial_site
from tests.support.admitted import PASSPHRASE

STARTS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Behaviour:
    """How the sites of a trial answer: how long each takes, who fails in which round, who never answers.

    held: by round an event that every site waits for before it answers.
    """

    pace_s: float = 0.0
    held: Mapping[int, threading.Event] = field(default_factory=dict)
    fails: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()


def made_home(folder: Path, federation: FederationSettings | None = None, **settings: object) -> ServerHome:
    """A coordinator that was initialised and whose server does not run."""
    content = {"port": free_port(), **settings}
    settings_here = ServerSettings.model_validate(content)
    return init_server(
        folder / "coordinator", federation or trial_federation(), settings_here, passphrase=PASSPHRASE
    )


def created(home: ServerHome, name: str, **changes: object) -> RunDirectory:
    """A run that was made and has not begun."""
    return RunDirectory.create(home.runs / name, trial_federation(**changes), engine="in-process")


def conduct(run: RunDirectory, behaviour: Behaviour | None = None) -> None:
    """Conduct the run to its end over the sites of its federation; that it failed is in its state."""
    how = behaviour or Behaviour()
    sites = {site: _site(site, index, how) for index, site in enumerate(run.federation().sites)}
    with server_identity(), contextlib.suppress(FedminetError):
        run_federation(InProcessGrid(sites, silent=how.silent), run)


@contextlib.contextmanager
def conducting(run: RunDirectory, behaviour: Behaviour) -> Iterator[threading.Thread]:
    """The run goes on meanwhile; it is waited for at the end."""
    thread = threading.Thread(target=conduct, args=(run, behaviour), name="run")
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


def wait_until(condition: Callable[[], bool], *, deadline_s: float = 120.0) -> None:
    """Wait for what another thread or process is about to do."""
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, "what was waited for did not happen"
        time.sleep(0.05)


@contextlib.contextmanager
def served(
    home: ServerHome, *, access: Access | None = None, hosts: tuple[str, ...] = ()
) -> Iterator[httpx.Client]:
    """The screen on a free port of this machine, and a client for it that follows no redirect."""
    binding = Binding(port=free_port(), hosts=hosts)
    server = server_of(home, binding, access=access)
    thread = threading.Thread(target=server.run, name="screen")
    thread.start()
    try:
        wait_until(lambda: server.started, deadline_s=STARTS_WITHIN_S)
        with httpx.Client(base_url=binding.url.rstrip("/"), timeout=60.0, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def _site(name: str, index: int, how: Behaviour) -> ClientApp:
    def reshape(content: RecordDict, message: Message) -> RecordDict:
        number = int(str(message.content.config_records[messages.REQUEST]["round"]))
        time.sleep(how.pace_s)
        if (event := how.held.get(number)) is not None:
            assert event.wait(STARTS_WITHIN_S)
        if number in how.fails.get(name, ()):
            raise StoreDamaged("the store of /data/patients is damaged")
        figures = content.metric_records[messages.METRICS]
        figures["validation_psnr_db"] = 29.0 + 2 * index + 7.0 * (1 - math.exp(-number / 4))
        figures["validation_ssim"] = 0.97 - 0.07 * math.exp(-number / 4)
        figures["train_loss"] = 0.02 + 0.01 * index + 0.2 * math.exp(-number / 3)
        return content

    return trial_site(shift=0.25 * (index + 1), n_training_slices=50 + 20 * index, reshape=reshape)


SITES = TRIAL_SITES
