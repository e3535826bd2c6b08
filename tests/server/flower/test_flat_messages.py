"""A message in one record: both ends agree, a site that knows no such form is asked again, and parts are counted."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from client.rounds.round_request import flattened, is_flat, take_apart
from fedminet.simulation.in_process_grid import node_id_of, server_identity
from minet_core.errors import ReplyRefused
from minet_core.protocol import messages
from minet_core.protocol.flat_form import FLAT, MAX_BYTES, WEIGHTS
from minet_core.weights.payload import pack
from server.flower.flat_messages import FlatMessages
from server.rounds.exchange import request

SITES = ("sms", "umr", "fastmri")
WEIGHT_VALUES = {"conv": np.arange(6, dtype=np.float32).reshape(2, 3)}
FIGURES = {"round": 3, "run": 2**53 - 1, "train_loss": 0.125, "ledger_0": 2**32 - 1}


def asked(site: str, *, n_values: int = 6) -> Message:
    weights = {"conv": np.arange(n_values, dtype=np.float32)}
    content = request(weights, round_number=3, run="first", digest="d" * 64)
    with server_identity():
        message = Message(content, node_id_of(site), "train")
    message.metadata.__dict__["_message_id"] = f"request-{site}"
    return message


def answered(message: Message, content: RecordDict | None = None) -> Message:
    reply = RecordDict(
        {
            messages.METRICS: MetricRecord(dict(FIGURES)),
            messages.MODEL: ArrayRecord({messages.PARCEL: Array(pack(WEIGHT_VALUES))}),
        }
    )
    return Message(reply if content is None else content, reply_to=message)


def sent(flat: FlatMessages, *requests: Message) -> list[Message]:
    """What leaves, noted under the ids that the requests have."""
    leaving = flat.requests(requests)
    flat.note_sent(leaving, [one.metadata.message_id for one in requests])
    return leaving


def test_a_request_comes_apart_as_it_was_made() -> None:
    (leaving,) = sent(FlatMessages(), asked("sms"))
    assert is_flat(leaving)
    take_apart(leaving)
    made = asked("sms").content
    assert set(leaving.content) == set(made) == {messages.MODEL, messages.REQUEST}
    assert dict(leaving.content[messages.REQUEST]) == dict(made[messages.REQUEST])
    parcels = [one.array_records[messages.MODEL][messages.PARCEL] for one in (leaving.content, made)]
    assert parcels[0].data == parcels[1].data


def test_a_reply_comes_apart_as_it_was_made() -> None:
    flat = FlatMessages()
    (leaving,) = sent(flat, asked("sms"))
    made = answered(leaving)
    plain = made.content
    made.content = flattened(plain)
    assert set(made.content) == {FLAT}
    taken = flat.reply(made)
    assert taken is not None
    assert dict(taken.content[messages.METRICS]) == FIGURES
    assert isinstance(taken.content[messages.METRICS], MetricRecord)
    arrays = [one.array_records[messages.MODEL][messages.PARCEL] for one in (taken.content, plain)]
    assert arrays[0].data == arrays[1].data


def test_a_round_of_three_sites_is_half_as_many_parts() -> None:
    """Guard on counted work: each part is taken or given by the SuperLink, about 10 ms each.

    The coordinator hands in what is not there yet, and takes every part of every reply; a site does likewise.
    """

    def parts_of_a_round(*, in_one_record: bool) -> int:
        flat = FlatMessages() if in_one_record else FlatMessages(unable={node_id_of(site) for site in SITES})
        leaving = sent(flat, *map(asked, SITES))
        replies = []
        for index, one in enumerate(leaving):
            reply = answered(one)
            reply.content.metric_records[messages.METRICS]["round"] = index  # no two replies are alike
            reply.content[messages.MODEL] = ArrayRecord(
                {messages.PARCEL: Array(pack({"conv": np.full(6, index, np.float32)}))}
            )
            if is_flat(one):
                reply.content = flattened(reply.content)
            replies.append(reply)
        handed_in = {part for one in leaving for part in get_all_nested_objects(one)}
        given = sum(len(get_all_nested_objects(one)) for one in leaving)
        return len(handed_in) + given + 2 * sum(len(get_all_nested_objects(one)) for one in replies)

    assert parts_of_a_round(in_one_record=False) == 8 + 18 + 18 + 18
    assert parts_of_a_round(in_one_record=True) == 5 + 9 + 9 + 9


def test_a_site_that_knows_no_flat_form_is_asked_again_in_the_other() -> None:
    flat = FlatMessages()
    first, other = sent(flat, asked("sms"), asked("umr"))
    refusal = RecordDict({messages.FAILURE: ConfigRecord({"code": ReplyRefused.code})})
    assert flat.reply(answered(first, refusal)) is None
    again, still = sent(flat, asked("sms"), asked("umr"))
    assert not is_flat(again)
    assert is_flat(still)
    # A refusal of the form that it knows is the site's answer.
    assert flat.reply(answered(again, refusal)) is not None
    # So is any other code of the first form.
    code = RecordDict({messages.FAILURE: ConfigRecord({"code": "FM-F420"})})
    assert flat.reply(answered(other, code)) is not None


def test_large_weights_travel_as_they_did() -> None:
    (leaving,) = sent(FlatMessages(), asked("sms", n_values=MAX_BYTES // 4))
    assert not is_flat(leaving)
    reply = answered(leaving).content
    reply[messages.MODEL] = ArrayRecord({messages.PARCEL: Array(np.zeros(MAX_BYTES, np.uint8))})
    assert flattened(reply) is reply


@pytest.mark.parametrize(
    "values",
    [
        {WEIGHTS: 3, "metrics/round": 1},
        {"metrics/round": 1},
        {WEIGHTS: b"parcel", "round": 1},
        {WEIGHTS: b"parcel", "/round": 1},
        {WEIGHTS: b"parcel", "metrics/round": "three"},
        {WEIGHTS: b"parcel", "metrics/round": b"three"},
    ],
)
def test_a_flat_reply_of_another_form_is_refused(values: dict[str, object]) -> None:
    flat = FlatMessages()
    (leaving,) = sent(flat, asked("sms"))
    with pytest.raises((ReplyRefused, TypeError)):
        flat.reply(answered(leaving, RecordDict({FLAT: ConfigRecord(values)})))  # type: ignore[arg-type]


def test_a_flat_reply_to_a_request_that_was_not_is_refused() -> None:
    flat = FlatMessages(unable={node_id_of("sms")})
    (leaving,) = sent(flat, asked("sms"))
    reply = answered(leaving)
    reply.content = flattened(reply.content)
    with pytest.raises(ReplyRefused, match="which its request was not"):
        flat.reply(reply)


def test_further_records_of_a_flat_reply_are_there_to_be_refused() -> None:
    flat = FlatMessages()
    (leaving,) = sent(flat, asked("sms"))
    reply = flattened(answered(leaving).content)
    reply.config_records[FLAT]["notes/path"] = "/data/patients"
    taken = flat.reply(answered(leaving, reply))
    assert taken is not None
    assert set(taken.content) == {messages.METRICS, messages.MODEL, "notes"}
