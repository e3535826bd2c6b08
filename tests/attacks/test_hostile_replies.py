"""A broken or hostile reply is refused by the site's name, and the round goes on without it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fedminet.simulation.in_process_grid import InProcessGrid
from minet_core.errors import QuorumNotMet
from minet_core.protocol import messages
from server.runs.run_directory import RunDirectory
from tests.faults.hostile import (
    HOSTILE,
    ODD,
    SECRET,
    figure,
    first_replaced,
    one_value,
    parcel_of,
    tried,
    with_weights,
)
from tests.faults.trial_sites import (
    Reshape,
    conduct_trial,
    honest_reply,
    trial_federation,
    trial_site,
    weights_in,
)


def kept_text(run: RunDirectory) -> str:
    paths = [path for path in run.path.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    return "".join(path.read_text() for path in paths)


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_reply_is_refused_by_name_and_the_mean_is_that_of_the_honest(
    tmp_path: Path, name: str
) -> None:
    verdict = tried(tmp_path, name)
    assert verdict.named, verdict
    assert verdict.equal, verdict
    assert verdict.status == ("completed" if name == "duplicate reply" else "partial")
    run = RunDirectory(tmp_path / "run")
    assert "reply-refused" in kept_text(run)  # the positive control
    assert "DOE" not in kept_text(run)


def with_an_extra_record(content: RecordDict, _request: Message) -> RecordDict:
    content["notes"] = ConfigRecord({"path": SECRET})
    return content


def with_a_second_array(content: RecordDict, _request: Message) -> RecordDict:
    content[messages.MODEL] = ArrayRecord(
        {messages.PARCEL: parcel_of(content), SECRET: Array(np.zeros(3, np.float32))}
    )
    return content


def with_pickled_weights(content: RecordDict, _request: Message) -> RecordDict:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    pickled = Array(dtype="uint8", shape=(1,), stype="numpy.ndarray", data=stream.getvalue())
    content[messages.MODEL] = ArrayRecord({messages.PARCEL: pickled})
    return content


def with_truncated_weights(content: RecordDict, _request: Message) -> RecordDict:
    whole = parcel_of(content)
    cut = Array(dtype=whole.dtype, shape=whole.shape, stype=whole.stype, data=whole.data[:-8])
    content[messages.MODEL] = ArrayRecord({messages.PARCEL: cut})
    return content


def with_no_array_at_all(content: RecordDict, _request: Message) -> RecordDict:
    content[messages.MODEL] = ArrayRecord(
        {messages.PARCEL: Array(dtype="uint8", shape=(0,), stype="numpy.ndarray", data=b"")}
    )
    return content


def with_bytes(make: Callable[[bytes], bytes]) -> Reshape:
    """The parcel's own bytes, head and all, replaced."""

    def reshape(content: RecordDict, _request: Message) -> RecordDict:
        whole = parcel_of(content)
        forged = Array(dtype=whole.dtype, shape=whole.shape, stype=whole.stype, data=make(whole.data))
        content[messages.MODEL] = ArrayRecord({messages.PARCEL: forged})
        return content

    return reshape


def npy_head(text: str) -> Reshape:
    """A numpy head of another text: one that is parsed is evaluated as a Python literal."""
    encoded = text.encode().ljust(117) + b"\n"
    return with_bytes(
        lambda data: b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + data[128:]
    )


def safetensors_head(text: str) -> Reshape:
    """A safetensors header of another text before the same numbers."""

    def reshape(content: RecordDict, _request: Message) -> RecordDict:
        plain = parcel_of(content).numpy().tobytes()
        numbers = plain[8 + int.from_bytes(plain[:8], "little") :]
        forged = len(text).to_bytes(8, "little") + text.encode() + numbers
        content[messages.MODEL] = ArrayRecord({messages.PARCEL: Array(np.frombuffer(forged, np.uint8))})
        return content

    return reshape


MALFORMED: dict[str, Reshape] = {
    "an open bracket for a numpy head": npy_head("("),
    "a set of lists for a numpy head": npy_head("{[]:1}"),
    "a deep numpy head": npy_head("-" * 110),
    "a head of another numpy form": with_bytes(lambda data: data.replace(b"NUMPY\x01", b"NUMPY\x02", 1)),
    "a tensor as a sequence": safetensors_head('{"w":["F32",[2],[0,8]]}'),
    "a dtype that is an object": safetensors_head(
        '{"w":{"dtype":{"F32":null},"shape":[2],"data_offsets":[0,8]}}'
    ),
    "a shape beyond all numbers": safetensors_head(
        '{"w":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'
    ),
    "a header of nothing but names": safetensors_head(
        "{"
        + ",".join(f'"n{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(20_000))
        + "}"
    ),
    "integers": first_replaced(lambda array: array.astype(np.int32)),
    "an extra record": with_an_extra_record,
    "an empty parcel": lambda content, _: with_weights(content, {}),
    "a second array": with_a_second_array,
    "pickled weights": with_pickled_weights,
    "truncated weights": with_truncated_weights,
    "no bytes": with_no_array_at_all,
    "an unknown figure": figure(SECRET, 1.0),
    "a NaN loss": figure("train_loss", float("nan")),
}


def three_sites(reshape: Reshape | None, *, also: str | None = None) -> InProcessGrid:
    return InProcessGrid(
        {
            site: trial_site(
                shift=0.1, n_training_slices=10, reshape=reshape if site in (ODD, also) else None
            )
            for site in ("sms", "umr", "fastmri")
        }
    )


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_a_malformed_reply_is_refused_by_name(tmp_path: Path, name: str) -> None:
    run = conduct_trial(tmp_path, three_sites(MALFORMED[name]), trial_federation(rounds=1))
    refused = [event["site"] for event in run.events_recorded() if event["event"] == "reply-refused"]
    assert refused == [ODD]
    assert (run.state.status, run.state.reason) == ("partial", f"round 1 without {ODD}")
    assert "DOE" not in kept_text(run)


def test_two_different_answers_to_one_request_are_both_refused(tmp_path: Path) -> None:
    """Which of them came first is the sender's choice, so neither is believed."""

    class TwoFaced(InProcessGrid):
        def _answer(self, message: Message) -> Message:
            reply = super()._answer(message)
            self.other = reply
            if self._names[message.metadata.dst_node_id] == ODD and message.metadata.message_type == "train":
                content = honest_reply(message, shift=5.0, n_training_slices=10)
                self.other = Message(content, reply_to=message)
            return reply

        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            replies = list(super().pull_messages(message_ids))
            if replies and self._names[replies[0].metadata.src_node_id] == ODD:
                return [*replies, self.other]
            return replies

    sites = {site: trial_site(shift=0.1, n_training_slices=10) for site in ("sms", "umr", "fastmri")}
    run = conduct_trial(tmp_path, TwoFaced(sites), trial_federation(rounds=1))
    assert run.state.reason == f"round 1 without {ODD}"


@pytest.mark.parametrize("refuse", [True, False])
def test_a_suspect_update_is_refused_unless_the_federation_says_to_use_it(
    tmp_path: Path, refuse: bool
) -> None:
    def huge(content: RecordDict, request: Message) -> RecordDict:
        return honest_reply(request, shift=50.0, n_training_slices=10)

    changes = {} if refuse else {"quarantine": {"refuse_norm": False}}
    run = conduct_trial(tmp_path, three_sites(huge), trial_federation(rounds=1, **changes))
    suspect = [event["site"] for event in run.events_recorded() if event["event"] == "update-suspect"]
    assert suspect == [ODD]
    assert run.state.status == ("partial" if refuse else "completed")
    assert ("FM-F410" in str(run.state.reason)) is False  # the reason names rounds and sites


class Undecodable(InProcessGrid):
    """One site's reply cannot be put together by the transport's own code."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ids = list(message_ids)
        if any(i in self._asked and self._names[self._asked[i].metadata.dst_node_id] == ODD for i in ids):
            raise ValueError("DecodeError: DOE^JOHN")
        return super().pull_messages(ids)


def test_a_reply_that_cannot_be_put_together_is_refused_by_name(tmp_path: Path) -> None:
    sites = {site: trial_site(shift=0.1, n_training_slices=10) for site in ("sms", "umr", "fastmri")}
    run = conduct_trial(tmp_path, Undecodable(sites), trial_federation(rounds=1))
    refused = [event["site"] for event in run.events_recorded() if event["event"] == "reply-refused"]
    assert refused == [ODD]
    assert run.state.status == "partial"
    assert "DOE" not in kept_text(run)


@pytest.mark.parametrize("value", [3e38, 1e6])
def test_a_hostile_control_variate_is_refused_as_a_hostile_weight_is(tmp_path: Path, value: float) -> None:
    def controlled(content: RecordDict, _request: Message) -> RecordDict:
        weights = weights_in(content)
        controls = {
            name: np.full_like(w, value) for name, w in weights.items() if name.startswith("control/")
        }
        assert controls
        return with_weights(content, {**weights, **controls})

    federation = trial_federation(algorithm={"name": "scaffold"}, quarantine={"refuse_norm": True})
    run = conduct_trial(tmp_path, three_sites(controlled), federation)
    assert run.state.reason == f"rounds 1 to 2 without {ODD}"
    assert "FM-F410" in kept_text(run)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedadam"])
def test_values_that_would_overflow_are_refused_whatever_the_settings_say(
    tmp_path: Path, algorithm: str
) -> None:
    enormous = first_replaced(lambda array: np.full_like(array, 3e38))
    federation = trial_federation(rounds=1, algorithm={"name": algorithm})
    run = conduct_trial(tmp_path, three_sites(enormous), federation)
    assert (run.state.status, run.state.reason) == ("partial", f"round 1 without {ODD}")
    assert "FM-F410" in kept_text(run)


def test_a_round_below_its_quorum_is_repeated_and_then_the_run_fails(tmp_path: Path) -> None:
    contract = {"quorum": 2, "deadline_s": 5.0, "retries": 2}
    with pytest.raises(QuorumNotMet, match="FM-F402"):
        conduct_trial(
            tmp_path, three_sites(one_value(np.nan), also="umr"), trial_federation(participation=contract)
        )
    run = RunDirectory(tmp_path / "run")
    assert (run.state.status, run.state.round, run.state.attempt) == ("failed", 0, 2)
    assert [e["attempt"] for e in run.events_recorded() if e["event"] == "round-abandoned"] == [0, 1, 2]
    assert not run.global_model.exists()
    assert not run.checkpoint(1).exists()


def test_a_repeated_round_asks_only_those_whose_reply_was_wanting(tmp_path: Path) -> None:
    tries: list[int] = []

    def bad_at_first(content: RecordDict, request: Message) -> RecordDict:
        tries.append(1)
        return one_value(np.nan)(content, request) if len(tries) == 1 else content

    contract = {"quorum": 3, "deadline_s": 5.0, "retries": 1}
    run = conduct_trial(
        tmp_path, three_sites(bad_at_first), trial_federation(rounds=1, participation=contract)
    )
    assert run.state.status == "completed"
    accepted = [event["site"] for event in run.events_recorded() if event["event"] == "reply-accepted"]
    assert sorted(accepted) == ["fastmri", "sms", "umr"]
    assert accepted[-1] == ODD


@pytest.mark.parametrize(
    ("contract", "breach"),
    [
        ({"quorum": 1, "required": [ODD]}, "requires"),
        ({"quorum": 3}, "quorum 3"),
    ],
)
def test_a_contract_that_is_not_met_says_what_is_missing(
    tmp_path: Path, contract: dict[str, object], breach: str
) -> None:
    federation = trial_federation(participation={"deadline_s": 5.0, "retries": 0, **contract})
    with pytest.raises(QuorumNotMet, match=breach):
        conduct_trial(tmp_path, three_sites(one_value(np.nan)), federation)


def test_a_silent_site_is_missed_after_the_deadline_and_named(tmp_path: Path) -> None:
    sites = {site: trial_site(shift=0.1, n_training_slices=10) for site in ("sms", "umr", "fastmri")}
    grid = InProcessGrid(sites, silent=frozenset({ODD}))
    federation = trial_federation(rounds=1, participation={"quorum": 2, "deadline_s": 1.0})
    run = conduct_trial(tmp_path, grid, federation)
    assert run.state.status == "partial"
    missed = [event["site"] for event in run.events_recorded() if event["event"] == "reply-missing"]
    assert missed == [ODD]


def test_too_few_sites_online_fails_before_the_first_round(tmp_path: Path) -> None:
    from fedminet.simulation.in_process_grid import server_identity
    from server.rounds.run import run_federation

    run = RunDirectory.create(tmp_path / "run", trial_federation(), engine="in-process")
    grid = InProcessGrid({"sms": trial_site(shift=0.1, n_training_slices=10)})
    with pytest.raises(QuorumNotMet, match="online"), server_identity():
        run_federation(grid, run, join_deadline_s=0.0)


def test_a_figure_that_was_not_agreed_does_not_pass_by_its_type(tmp_path: Path) -> None:
    def as_text(content: RecordDict, _request: Message) -> RecordDict:
        content[messages.METRICS] = ConfigRecord({"note": SECRET})
        return content

    run = conduct_trial(tmp_path, three_sites(as_text), trial_federation(rounds=1))
    assert run.state.status == "partial"
    assert "DOE" not in kept_text(run)
