#!/bin/sh
# flwr 1.42.0: the arrays of an ArrayRecord have names, and FedAvg goes by them. FedAvgM, QFedAvg and the clipping wrappers for
# differential privacy pair a site's arrays with the global model's by their place in the record; Krum, MultiKrum and Bulyan so one
# site's with another's. What is checked is that the sets of names are the same; in which order they stand nobody looks at. A site
# that answers in another order than it was asked in, as one does whose state comes from a safetensors file (its arrays lie in the
# order of their names), is mixed up wherever shapes agree, as of most layers of a network they do: a layer is moved towards
# another one's values, or takes its place. Nothing is raised or logged; only shapes that do not fit end the round. FedAvg,
# FedAdam, FedMedian and FedTrimmedAvg are right. The remedy is one order, such as sorted names, on both sides.
#
# Output seen (the global model's layers are 1 and 10, both sites answer 2 and 11; FedAvgM goes half the way, clipping to 1):
#   order of a safetensors file that was written as entry, body: body, entry
#   FedAvg, order of the question: entry 2.00, body 11.00
#   FedAvg, order of the file: entry 2.00, body 11.00
#   FedMedian, order of the file: entry 2.00, body 11.00
#   FedTrimmedAvg, order of the file: entry 2.00, body 11.00
#   FedAdam, the same in both orders: yes
#   FedAvgM, order of the question: entry 1.50, body 10.50
#   FedAvgM, order of the file: entry 6.00, body 6.00
#   QFedAvg, order of the question: entry 2.00, body 11.00
#   QFedAvg, order of the file: entry 11.00, body 2.00
#   clipping, order of the question: entry 1.35, body 10.35
#   clipping, order of the file: entry 9.69, body 1.39
#   adaptive clipping, the same in both orders: no
#   Bulyan, one site of three by the file: entry 5.00, body 8.00
#   MultiKrum of three, one site by the file: squared distances to the others 648 648, of the same answers in one order 0 0
#   warned of the order: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0 safetensors==0.8.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import logging
import sys
import warnings
from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy.multikrum import compute_distances
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load_file, save_file

TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # a message is made outside a run
logged: list[str] = []
logger = logging.getLogger("flwr")
logger.handlers = [logging.Handler()]
logger.handlers[0].emit = lambda record: logged.append(f"{record.levelname} {record.getMessage()}")
Weights = dict[str, np.ndarray]


class Grid:
    def get_node_ids(self) -> list[int]:
        return [1, 2]


def layers(entry: float, body: float) -> Weights:
    return {"entry": np.full((2, 2), entry, np.float32), "body": np.full((2, 2), body, np.float32)}


def record(weights: Weights) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in weights.items()})


def reply(weights: Weights) -> Message:
    metrics = MetricRecord({"num-examples": 10, "train_loss": 1.0})
    content = RecordDict({"arrays": record(weights), "metrics": metrics})
    return Message(content, reply_to=Message(RecordDict(), dst_node_id=1, message_type="train"))


answer = layers(2, 11)
save_file(answer, sys.argv[1] + "/answer.safetensors")
of_file = load_file(sys.argv[1] + "/answer.safetensors")
print(f"order of a safetensors file that was written as entry, body: {', '.join(of_file)}")
QUESTION, FILE = ("question", answer), ("file", of_file)
FIXED, ADAPTIVE = (getattr(strategies, f"DifferentialPrivacyServerSide{kind}Clipping") for kind in ("Fixed", "Adaptive"))


def aggregated(strategy: strategies.Strategy, *replies: Weights) -> tuple[float, float]:
    list(strategy.configure_train(1, record(layers(1, 10)), ConfigRecord(), Grid()))
    arrays, _ = strategy.aggregate_train(1, [reply(weights) for weights in replies])
    return float(arrays["entry"].numpy().mean()), float(arrays["body"].numpy().mean())


def by_order(name: str, make: Callable[[], strategies.Strategy], *orders: tuple[str, Weights]) -> None:
    for order, weights in orders:
        entry, body = aggregated(make(), weights, weights)
        print(f"{name}, order of the {order}: entry {entry:.2f}, body {body:.2f}")


def agrees(name: str, make: Callable[[], strategies.Strategy]) -> None:
    same = np.allclose(aggregated(make(), answer, answer), aggregated(make(), of_file, of_file), atol=1e-4)
    print(f"{name}, the same in both orders: {'yes' if same else 'no'}")


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    by_order("FedAvg", strategies.FedAvg, QUESTION, FILE)
    by_order("FedMedian", strategies.FedMedian, FILE)
    by_order("FedTrimmedAvg", strategies.FedTrimmedAvg, FILE)
    agrees("FedAdam", strategies.FedAdam)
    by_order("FedAvgM", lambda: strategies.FedAvgM(server_learning_rate=0.5), QUESTION, FILE)
    by_order("QFedAvg", lambda: strategies.QFedAvg(client_learning_rate=1.0, q=0.0), QUESTION, FILE)
    by_order("clipping", lambda: FIXED(strategies.FedAvg(), 0.0, 1.0, 2), QUESTION, FILE)
    agrees(
        "adaptive clipping",
        lambda: ADAPTIVE(strategies.FedAvg(), 0.0, 2, initial_clipping_norm=1.0, clipped_count_stddev=0.0),
    )
    entry, body = aggregated(strategies.Bulyan(num_malicious_nodes=0), answer, answer, of_file)
    print(f"Bulyan, one site of three by the file: entry {entry:.2f}, body {body:.2f}")
    mixed = compute_distances([record(of_file), record(answer), record(answer)])[0]
    same = compute_distances([record(answer)] * 3)[0]
    said = f"{mixed[1]:.0f} {mixed[2]:.0f}, of the same answers in one order {same[1]:.0f} {same[2]:.0f}"
    print(f"MultiKrum of three, one site by the file: squared distances to the others {said}")
told = [str(one.message) for one in warned if "flwr" in one.filename]
told += [line for line in logged if line.startswith(("WARN", "ERROR")) or "order" in line.split()]
print("warned of the order:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
