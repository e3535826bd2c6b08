"""A broken or hostile reply is refused by the site's name, and the round goes on without it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from minet_core import wire
from minet_core.checkpoint import load_checkpoint
from minet_core.parcel import packed
from minet_core.runtime.errors import QuorumNotMet
from minet_core.weights import weighted_mean
from server.federated_run import initial_weights
from tests.federations import Reshape, run_small, shaped_site, small_federation

SECRET = "/mnt/pacs/DOE^JOHN/1961-02-03"


Weights = dict[str, np.ndarray]


def parcel_of(content: RecordDict) -> Array:
    return content.array_records[wire.MODEL][wire.PARCEL]


def weights_of(content: RecordDict) -> Weights:
    return safetensors.numpy.load(parcel_of(content).numpy().tobytes())


def with_weights(content: RecordDict, weights: Weights) -> RecordDict:
    content[wire.MODEL] = ArrayRecord({wire.PARCEL: Array(packed(weights))})
    return content


def first_replaced(make: Callable[[np.ndarray], np.ndarray]) -> Reshape:
    def reshape(content: RecordDict) -> RecordDict:
        weights = weights_of(content)
        name = sorted(weights)[0]
        weights[name] = make(weights[name])
        return with_weights(content, weights)

    return reshape


def one_value(value: float) -> Reshape:
    def make(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.flat[0] = value
        return array

    return first_replaced(make)


def without_a_key(content: RecordDict) -> RecordDict:
    weights = weights_of(content)
    weights.pop(sorted(weights)[0])
    return with_weights(content, weights)


def with_an_extra_key(content: RecordDict) -> RecordDict:
    return with_weights(content, weights_of(content) | {SECRET: np.zeros(3, np.float32)})


def with_a_second_array(content: RecordDict) -> RecordDict:
    content[wire.MODEL] = ArrayRecord(
        {wire.PARCEL: parcel_of(content), SECRET: Array(np.zeros(3, np.float32))}
    )
    return content


def a_hundred_times_too_large(content: RecordDict) -> RecordDict:
    size = 100 * parcel_of(content).numpy().nbytes + 1_000_000
    content[wire.MODEL] = ArrayRecord({wire.PARCEL: Array(np.zeros(size, np.uint8))})
    return content


def figure(name: str, value: object) -> Reshape:
    def reshape(content: RecordDict) -> RecordDict:
        content[wire.METRICS] = MetricRecord({**content.metric_records[wire.METRICS], name: value})  # type: ignore[dict-item]
        return content

    return reshape


def with_an_extra_record(content: RecordDict) -> RecordDict:
    content["notes"] = ConfigRecord({"path": SECRET})
    return content


def with_pickled_weights(content: RecordDict) -> RecordDict:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    pickled = Array(dtype="uint8", shape=(1,), stype="numpy.ndarray", data=stream.getvalue())
    content[wire.MODEL] = ArrayRecord({wire.PARCEL: pickled})
    return content


def with_truncated_weights(content: RecordDict) -> RecordDict:
    whole = parcel_of(content)
    cut = Array(dtype=whole.dtype, shape=whole.shape, stype=whole.stype, data=whole.data[:-8])
    content[wire.MODEL] = ArrayRecord({wire.PARCEL: cut})
    return content


def without_weights(content: RecordDict) -> RecordDict:
    content[wire.MODEL] = ArrayRecord({})
    return content


def a_failure_with_text(content: RecordDict) -> RecordDict:
    return RecordDict({wire.FAILURE: ConfigRecord({"code": SECRET, "trace": SECRET})})


HOSTILE: dict[str, Reshape] = {
    "a NaN": one_value(np.nan),
    "an infinity": one_value(np.inf),
    "a shape that would broadcast": first_replaced(lambda array: np.ones(1, np.float32)),
    "another dtype": first_replaced(lambda array: array.astype(np.float64)),
    "integers": first_replaced(lambda array: array.astype(np.int32)),
    "a missing key": without_a_key,
    "an extra key": with_an_extra_key,
    "an extra record": with_an_extra_record,
    "no weights": without_weights,
    "an empty parcel": lambda content: with_weights(content, {}),
    "a second array": with_a_second_array,
    "a parcel a hundred times too large": a_hundred_times_too_large,
    "pickled weights": with_pickled_weights,
    "truncated weights": with_truncated_weights,
    "no examples": figure("n_training_slices", 0),
    "negative examples": figure("n_training_slices", -9),
    "a million million examples": figure("n_training_slices", 10**12),
    "an unknown figure": figure(SECRET, 1.0),
    "a NaN loss": figure("train_loss", float("nan")),
    "text in a failure": a_failure_with_text,
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_reply_is_refused_by_name_and_the_mean_is_that_of_the_honest(
    tmp_path: Path, name: str
) -> None:
    federation = small_federation(rounds=1)
    run = run_small(
        tmp_path,
        {
            "sms": shaped_site(shift=0.25, n_training_slices=100),
            "umr": shaped_site(shift=0.5, n_training_slices=50),
            "fastmri": shaped_site(shift=9.0, n_training_slices=70, reshape=HOSTILE[name]),
        },
        federation=federation,
    )
    refused = [event for event in run.events_recorded() if event["event"] == "reply-refused"]
    assert [event["site"] for event in refused] == ["fastmri"]
    assert run.state.status == "partial"
    assert run.state.reason == "round 1 without fastmri"
    _, start = initial_weights(federation)
    shifted = {
        site: {k: v + np.float32(s) for k, v in start.items()} for site, s in (("sms", 0.25), ("umr", 0.5))
    }
    expected = weighted_mean([("sms", 100, shifted["sms"]), ("umr", 50, shifted["umr"])])
    tensors, _ = load_checkpoint(run.global_model)
    assert {key: tensor.numpy().tobytes() for key, tensor in tensors.items()} == {
        key: array.tobytes() for key, array in expected.items()
    }
    kept = "".join(
        path.read_text() for path in run.path.iterdir() if path.suffix != ".safetensors" and path.is_file()
    )
    assert "DOE" not in kept


def test_a_round_below_its_quorum_is_not_completed(tmp_path: Path) -> None:
    hostile = HOSTILE["a NaN"]
    with pytest.raises(QuorumNotMet, match="FM-F402"):
        run_small(
            tmp_path,
            {
                "sms": shaped_site(shift=0.1, n_training_slices=10),
                "umr": shaped_site(shift=0.1, n_training_slices=10, reshape=hostile),
                "fastmri": shaped_site(shift=0.1, n_training_slices=10, reshape=hostile),
            },
        )
    from server.run_directory import RunDirectory

    run = RunDirectory(tmp_path / "run")
    assert (run.state.status, run.state.round) == ("failed", 0)
    assert not run.global_model.exists()
    assert not run.checkpoint(1).exists()


def test_a_silent_site_is_missed_after_the_deadline_and_named(tmp_path: Path) -> None:
    site = shaped_site(shift=0.1, n_training_slices=10)
    run = run_small(
        tmp_path,
        {"sms": site, "umr": site, "fastmri": site},
        federation=small_federation(rounds=1, round_deadline_s=1.0),
        silent=frozenset({"fastmri"}),
    )
    assert run.state.status == "partial"
    missed = [event["site"] for event in run.events_recorded() if event["event"] == "reply-missing"]
    assert missed == ["fastmri"]


def test_too_few_sites_online_fails_before_the_first_round(tmp_path: Path) -> None:
    with pytest.raises(QuorumNotMet, match="online"):
        run_small_without_waiting(tmp_path)


def run_small_without_waiting(tmp_path: Path) -> None:
    from fedminet.in_process_grid import InProcessGrid
    from server.federated_run import run_federation
    from server.run_directory import RunDirectory

    run = RunDirectory.create(tmp_path / "run", small_federation(), engine="in-process")
    grid = InProcessGrid({"sms": shaped_site(shift=0.1, n_training_slices=10)}, run_config={"run": "run"})
    run_federation(grid, run, join_deadline_s=0.0)
