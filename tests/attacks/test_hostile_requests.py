"""What a hostile or broken server sends is refused by the site, which answers with a code and trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from client.app import build_client_app
from client.site_home import SiteHome
from fedminet.simulation.in_process_grid import InProcessGrid, node_id_of, server_identity
from minet_core.protocol import messages
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.protocol.flat_form import FLAT, WEIGHTS, flat_values
from minet_core.runtime.files.atomic_write import write_text
from minet_core.settings.yaml_file import settings_text
from minet_core.weights.payload import pack
from server.rounds.exchange import request
from tests.faults.tiny_sites import make_tiny_sites, tiny_federation

FEDERATION = tiny_federation()
SITE = "sms"

Change = Callable[[RecordDict], None]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> SiteHome:
    home = make_tiny_sites(tmp_path_factory.mktemp("hostile"))[SITE]
    write_text(home.kit / "federation.yaml", settings_text(FEDERATION))
    return home


def answered(home: SiteHome, change: Change, *, kind: str = "train") -> RecordDict:
    """What the site answers to an honest request that was changed."""
    _, weights = initial_weights(FEDERATION)
    content = request(weights, round_number=1, run="attack", digest=FEDERATION.digest())
    change(content)
    grid = InProcessGrid({SITE: build_client_app(lambda _context: home.path)})
    with server_identity():
        message = Message(content, node_id_of(SITE), kind, group_id="1")
        (reply,) = grid.pull_messages(grid.push_messages([message]))
    return reply.content


def with_weights(change: Callable[[dict[str, np.ndarray]], None]) -> Change:
    def apply(content: RecordDict) -> None:
        _, weights = initial_weights(FEDERATION)
        change(weights)
        content[messages.MODEL] = ArrayRecord({messages.PARCEL: Array(pack(weights))})

    return apply


def asking(**values: object) -> Change:
    def apply(content: RecordDict) -> None:
        content[messages.REQUEST] = ConfigRecord({**content.config_records[messages.REQUEST], **values})  # type: ignore[dict-item]

    return apply


def first(make: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(weights: dict[str, np.ndarray]) -> None:
        name = sorted(weights)[0]
        weights[name] = make(weights[name])

    return with_weights(change)


def a_huge_parcel(content: RecordDict) -> None:
    content[messages.MODEL] = ArrayRecord({messages.PARCEL: Array(np.zeros(10_000_000, np.uint8))})


def a_second_record(content: RecordDict) -> None:
    content["more"] = ConfigRecord({"command": "x"})


HOSTILE: dict[str, tuple[Change, str]] = {
    "NaN": (first(lambda a: np.full_like(a, np.nan)), "FM-M302"),
    "another shape": (first(lambda _: np.ones(1, np.float32)), "FM-M302"),
    "another dtype": (first(lambda a: a.astype(np.float64)), "FM-M302"),
    "a missing key": (with_weights(lambda w: w.pop(sorted(w)[0])), "FM-M302"),
    "an extra key": (with_weights(lambda w: w.update(extra=np.zeros(2, np.float32))), "FM-M302"),
    "a parcel too large": (a_huge_parcel, "FM-M302"),
    "another federation file": (asking(federation="0" * 64), "FM-C104"),
    "a round out of range": (asking(round=FEDERATION.rounds + 1), "FM-C104"),
    "a round before the first": (asking(round=0), "FM-C104"),
    "a run that names a folder": (asking(run="../../keys"), "FM-C104"),
    "a second record": (a_second_record, "FM-F401"),
}


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_request_is_answered_with_a_code_and_nothing_is_trained(
    home: SiteHome, name: str, kind: str
) -> None:
    change, code = HOSTILE[name]
    answer = answered(home, change, kind=kind)
    assert set(answer) == {messages.FAILURE}
    assert dict(answer.config_records[messages.FAILURE]) == {"code": code}
    assert not list(home.state.glob("**/*.safetensors"))


def test_the_honest_request_is_answered_with_weights(home: SiteHome, tmp_path: Path) -> None:
    """The positive control; last in a copy, so that the others find no kept round."""
    import shutil

    shutil.copytree(home.path, tmp_path / "copy")
    answer = answered(SiteHome(tmp_path / "copy"), lambda _: None)
    assert set(answer) == {messages.MODEL, messages.METRICS}


def in_one_record(content: RecordDict) -> None:
    """The same request in the form of `minet_core.protocol.flat_form`."""
    records = {name: dict(record) for name, record in content.items() if name != messages.MODEL}
    parcel = content.array_records[messages.MODEL][messages.PARCEL].numpy().tobytes()
    values = flat_values({**records, messages.MODEL: {messages.PARCEL: parcel}})
    for name in list(content):
        del content[name]
    content[FLAT] = ConfigRecord(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_in_one_record_it_is_answered_with_the_same_code(home: SiteHome, name: str) -> None:
    change, code = HOSTILE[name]

    def both(content: RecordDict) -> None:
        change(content)
        in_one_record(content)

    answer = answered(home, both)
    assert dict(answer.config_records[messages.FAILURE]) == {"code": code}
    assert not list(home.state.glob("**/*.safetensors"))


@pytest.mark.parametrize("values", [{"round": 1}, {"request/": 1}, {WEIGHTS: 3}, {WEIGHTS: "text"}, {}])
def test_a_flat_request_of_another_form_is_answered_with_a_code(
    home: SiteHome, values: dict[str, int | str]
) -> None:
    def broken(content: RecordDict) -> None:
        in_one_record(content)
        content[FLAT] = ConfigRecord(values)  # type: ignore[arg-type]

    answer = answered(home, broken)
    assert dict(answer.config_records[messages.FAILURE]) == {"code": "FM-F401"}


def test_the_honest_request_in_one_record_is_answered_in_one_with_the_same_weights(
    home: SiteHome, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(home.path, tmp_path / "copy")
    plain = answered(SiteHome(tmp_path / "copy"), lambda _: None)
    flat = answered(SiteHome(tmp_path / "copy"), in_one_record)  # the same request: its kept answer
    assert set(flat) == {FLAT}
    values = dict(flat.config_records[FLAT])
    assert values.pop(WEIGHTS) == plain.array_records[messages.MODEL][messages.PARCEL].numpy().tobytes()
    figures = plain.metric_records[messages.METRICS]
    same = {f"{messages.METRICS}/{name}" for name in figures if not name.startswith("ledger_")}
    assert same <= values.keys()
    assert all(values[name] == figures[name.partition("/")[2]] for name in same)
