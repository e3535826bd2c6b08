#!/bin/sh
# flwr 1.42.0: FedTrimmedAvg, which is chosen against sites that send wrong models, cuts off whole sites only, and rounds their number down: of n
# replies int(beta * n) at either end. With its default of 0.2 that is nobody as long as four or fewer answer, and a federation of hospitals is often no
# larger: the strategy is then the plain mean, and one wrong site has a quarter of the model. With five sites it protects, until one
# of them does not answer, and in that round it does not. The documentation has of beta "Fraction to cut off of both tails of the distribution". By the way it
# is a mean without weights: "num-examples", which its parameter weighted_by_key says is "used as the weight when computing weighted averages for both
# ArrayRecords and MetricRecords", does not count for arrays; a hospital of 10 patients counts as one of 900. Nothing is raised, and the log says
# how many results there are and no word of how many were left out. (Of scipy.stats.trim_mean, which it follows, the documentation says "rounded down".) Remedy: a
# beta of 1 / n or more, by the fewest replies that a round may have; below three, nothing helps.
#
# Output seen (all sites but one send 1.0, one sends 1000; what the mean is):
#   3 sites: FedTrimmedAvg 334.00, FedAvg 334.00
#   4 sites: FedTrimmedAvg 250.75, FedAvg 250.75
#   5 sites: FedTrimmedAvg 1.00, FedAvg 200.80
#   9 sites: FedTrimmedAvg 1.00, FedAvg 112.00
#   10 sites: FedTrimmedAvg 1.00, FedAvg 100.90
#   4 sites, beta of 0.25: FedTrimmedAvg 1.00
#   1.0 from 900 patients, 2.0 from 10 and 10: FedTrimmedAvg 1.67, FedAvg 1.02
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import logging

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedTrimmedAvg
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # a message is made outside a run
logging.getLogger("flwr").setLevel(logging.ERROR)


def reply(value, n_examples=100):
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.array([value]))}), "metrics": MetricRecord({"num-examples": n_examples})})
    return Message(content, reply_to=Message(RecordDict(), dst_node_id=1, message_type="train"))


def mean(strategy, sent):
    arrays, _ = strategy.aggregate_train(1, [reply(*one) for one in sent])
    return float(arrays["w"].numpy()[0])


for n in (3, 4, 5, 9, 10):
    sent = [(1.0,)] * (n - 1) + [(1000.0,)]
    print(f"{n} sites: FedTrimmedAvg {mean(FedTrimmedAvg(), sent):.2f}, FedAvg {mean(FedAvg(), sent):.2f}")
sent = [(1.0,)] * 3 + [(1000.0,)]
print(f"4 sites, beta of 0.25: FedTrimmedAvg {mean(FedTrimmedAvg(beta=0.25), sent):.2f}")
sent = [(1.0, 900), (2.0, 10), (2.0, 10)]
print(f"1.0 from 900 patients, 2.0 from 10 and 10: FedTrimmedAvg {mean(FedTrimmedAvg(), sent):.2f}, FedAvg {mean(FedAvg(), sent):.2f}")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
