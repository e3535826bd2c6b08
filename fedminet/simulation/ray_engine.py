"""The federation's two apps on Flower's simulation engine, where Ray runs the sites side by side.

A simulated node has no registered name. Before the run each node is asked which partition it is, and answers for
the site of that number; from then on the server sees the sites by name, as on the deployment engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from client.app import build_client_app
from minet_core.errors import ConfigurationError, DeadlinePassed, HostError
from server.flower.private_names import NodeInfo
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory

PARTITION = "partition-id"
"""The key under which Flower's simulation engine tells a node its number."""

START_DEADLINE_S = 60.0
ANSWER_DEADLINE_S = 600.0
"""Each worker of Ray imports torch before it answers."""


class NamedGrid(Grid):
    """A simulation's grid whose nodes carry site names; `ended`: the engine is gone, and nobody answers any more."""

    def __init__(self, grid: Grid, names: dict[int, str], ended: threading.Event) -> None:
        self._grid = grid
        self._names = names
        self._ended = ended

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [
            NodeInfo(node_id=node_id, name=name, status="online") for node_id, name in self._names.items()
        ]

    def get_node_ids(self) -> Iterable[int]:
        return list(self._names)

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        _require_engine(self._ended)
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)


def run_on_ray(run: RunDirectory, homes: Sequence[tuple[str, Path]]) -> None:
    """Run the federation of `run` on Ray.

    Raises ConfigurationError (FM-C100) without the `simulation` extra, HostError (FM-S500) where Ray ends before the
    run does, as it may at its start on a busy machine.
    """
    try:
        import ray  # noqa: F401  only to say what is missing
    except ImportError as failure:
        raise ConfigurationError(
            "the Ray engine is not installed", action="Install it: pip install 'fedminet[simulation]'"
        ) from failure
    sites = [site for site, _ in homes]
    folders = [folder.resolve() for _, folder in homes]
    client_app = build_client_app(lambda context: folders[int(context.node_config[PARTITION])])

    @client_app.query()
    def which_partition(message: Message, context: Context) -> Message:
        number = int(context.node_config[PARTITION])
        return Message(RecordDict({PARTITION: ConfigRecord({PARTITION: number})}), reply_to=message)

    server_app, ended = ServerApp(), threading.Event()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        run_federation(NamedGrid(grid, _names(grid, sites, ended), ended), run)

    try:
        run_simulation(
            server_app,
            client_app,
            num_supernodes=len(homes),
            backend_config={
                "init_args": {"include_dashboard": False, "log_to_driver": False},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
    except RuntimeError as failure:
        raise HostError("Ray ended before the run did", got=failure, action="Try again") from failure
    finally:
        ended.set()  # Flower leaves the server application's thread waiting when its engine fails


def _require_engine(ended: threading.Event) -> None:
    if ended.is_set():
        raise HostError("the simulation engine has ended, and no site answers any more")


def _names(grid: Grid, sites: Sequence[str], ended: threading.Event) -> dict[int, str]:
    ends = time.monotonic() + START_DEADLINE_S
    while len(node_ids := list(grid.get_node_ids())) < len(sites):  # the engine registers its nodes meanwhile
        _wait_a_little(ends, ended, what="the simulated nodes are there", got=len(node_ids))
    questions = [
        grid.create_message(RecordDict(), MessageType.QUERY, node_id, group_id="names")
        for node_id in node_ids
    ]
    ends, asked, names = time.monotonic() + ANSWER_DEADLINE_S, set(grid.push_messages(questions)), {}
    while asked:
        for answer in grid.pull_messages(list(asked)):
            asked.discard(answer.metadata.reply_to_message_id)
            record = answer.content[PARTITION]
            assert isinstance(record, ConfigRecord)
            number = record[PARTITION]
            assert isinstance(number, int)
            names[answer.metadata.src_node_id] = sites[number]
        if asked:
            _wait_a_little(ends, ended, what="every simulated node has answered", got=len(names))
    return names


def _wait_a_little(ends: float, ended: threading.Event, *, what: str, got: int) -> None:
    _require_engine(ended)
    if time.monotonic() > ends:
        raise DeadlinePassed(f"waited in vain until {what}", got=got)
    time.sleep(0.1)
