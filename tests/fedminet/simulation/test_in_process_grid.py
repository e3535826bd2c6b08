"""The in-process grid stands in for the deployment engine: it must behave as that does."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedminet.simulation.in_process_grid import InProcessGrid, node_id_of, run_in_process


def _doubling(seen: list[RecordDict] | None = None) -> ClientApp:
    client_app = ClientApp()

    @client_app.train()
    def train(message: Message, context: Context) -> Message:
        if seen is not None:
            seen.append(message.content)
        count = context.state["count"]["n"] + 1 if "count" in context.state else 1
        context.state["count"] = MetricRecord({"n": count})
        array = message.content["model"]["w"].numpy()
        record = ArrayRecord({"w": Array(array * 2)})
        array_of_request = message.content["model"]
        array_of_request["w"] = Array(np.zeros(1))  # what a site does to its copy must not reach the server
        return Message(RecordDict({"model": record, "count": MetricRecord({"n": count})}), reply_to=message)

    return client_app


def _raising() -> ClientApp:
    client_app = ClientApp()

    @client_app.train()
    def train(_message: Message, _context: Context) -> Message:
        raise ValueError("secret of the site")

    return client_app


def _run(sites: dict[str, ClientApp], main, **options) -> InProcessGrid:  # type: ignore[no-untyped-def]
    server_app = ServerApp()
    server_app.main()(main)
    return run_in_process(server_app, sites, run_config={"run": "one"}, **options)


def _content() -> RecordDict:
    return RecordDict({"model": ArrayRecord({"w": Array(np.arange(3, dtype=np.float32))})})


def test_a_reply_comes_from_the_named_site_with_its_arrays() -> None:
    found = {}

    def main(grid: Grid, context: Context) -> None:
        nodes = {node.node_id: node.name for node in grid.get_nodes()}
        messages = [Message(_content(), node, "train", group_id="1") for node in nodes]
        for reply in grid.send_and_receive(messages):
            found[nodes[reply.metadata.src_node_id]] = reply.content["model"]["w"].numpy()
        assert context.run_config == {"run": "one"}

    grid = _run({"a": _doubling(), "b": _doubling()}, main)
    assert set(found) == {"a", "b"}
    for array in found.values():
        np.testing.assert_array_equal(array, np.array([0, 2, 4], dtype=np.float32))
    assert grid.bytes_sent > 2 * 12
    assert grid.bytes_received > 2 * 12


def test_nothing_is_shared_between_the_server_and_a_site() -> None:
    seen: list[RecordDict] = []
    content = _content()

    def main(grid: Grid, context: Context) -> None:
        grid.send_and_receive([Message(content, node_id_of("a"), "train")])

    _run({"a": _doubling(seen)}, main)
    assert seen[0] is not content
    np.testing.assert_array_equal(content["model"]["w"].numpy(), np.arange(3, dtype=np.float32))


def test_a_site_keeps_its_own_context_between_messages() -> None:
    counts = []

    def main(grid: Grid, context: Context) -> None:
        for name in ("a", "a", "b"):
            (reply,) = grid.send_and_receive([Message(_content(), node_id_of(name), "train")])
            counts.append(reply.content["count"]["n"])

    _run({"a": _doubling(), "b": _doubling()}, main)
    assert counts == [1, 2, 1]


def test_a_raising_client_becomes_an_error_reply_with_its_text_as_in_flower() -> None:
    errors = []

    def main(grid: Grid, context: Context) -> None:
        (reply,) = grid.send_and_receive([Message(_content(), node_id_of("a"), "train")])
        errors.append(reply.error)

    _run({"a": _raising()}, main)
    assert (errors[0].code, errors[0].reason) == (2, "<class 'ValueError'>:<'secret of the site'>")


def test_a_silent_site_is_online_and_never_answers() -> None:
    replies = []

    def main(grid: Grid, context: Context) -> None:
        assert sorted(node.name for node in grid.get_nodes()) == ["a", "b"]
        ids = grid.push_messages([Message(_content(), node_id_of(name), "train") for name in ("a", "b")])
        replies.extend(grid.pull_messages(ids))
        replies.extend(grid.pull_messages(ids))

    _run({"a": _doubling(), "b": _doubling()}, main, silent=frozenset({"a"}))
    assert [reply.metadata.src_node_id for reply in replies] == [node_id_of("b")]


def test_a_message_to_an_unknown_node_is_not_taken() -> None:
    def main(grid: Grid, context: Context) -> None:
        assert list(grid.push_messages([Message(_content(), 7, "train")])) == [""]

    _run({"a": _doubling()}, main)


def test_what_the_server_raises_is_raised() -> None:
    def main(grid: Grid, context: Context) -> None:
        raise RuntimeError("the round failed")

    with pytest.raises(RuntimeError, match="the round failed"):
        _run({"a": _doubling()}, main)


def test_each_reply_is_reported() -> None:
    calls = []

    def main(grid: Grid, context: Context) -> None:
        grid.send_and_receive([Message(_content(), node_id_of(name), "train") for name in ("a", "b")])

    _run({"a": _doubling(), "b": _doubling()}, main, on_reply=lambda: calls.append(1))
    assert len(calls) == 2


def test_a_config_record_arrives_as_it_was_sent() -> None:
    seen: list[RecordDict] = []
    content = _content()
    content["request"] = ConfigRecord({"round": 3, "run": "one", "bytes": b"\x00"})

    def main(grid: Grid, context: Context) -> None:
        grid.send_and_receive([Message(content, node_id_of("a"), "train")])

    _run({"a": _doubling(seen)}, main)
    assert dict(seen[0]["request"]) == {"round": 3, "run": "one", "bytes": b"\x00"}
