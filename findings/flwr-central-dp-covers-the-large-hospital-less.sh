#!/bin/sh
# flwr 1.42.0: DifferentialPrivacyServerSideFixedClipping clips every site's update to clipping_norm and adds noise of noise_multiplier *
# clipping_norm / num_sampled_clients to the mean. That is right where each site is one part in num_sampled_clients of the mean. FedAvg, around which it is
# put, weighs by "num-examples": a hospital that has 91% of the patients moves the model by 0.91 of the norm and is covered by the noise for a
# quarter of it. "A value of 1.0 or higher is recommended for strong privacy", says the documentation of noise_multiplier, and for that hospital
# it is 0.27: in one round an epsilon of 22 at a delta of 1e-5, where 1.0 is 4.4. Where replies are missing, the mean is of fewer and the noise
# stays as it was: that the number is another one the log does warn of, and goes on. Of weights it says nothing. With the accountant of this
# release, which is None unless one is given, unequal weights are refused; without one nothing is raised or warned of, and the log has the noise's
# deviation. Remedy: sites that all name the same number, and a num_sampled_clients that is at most the number of replies.
#
# Output seen (four sites, noise_multiplier 1.0, clipping_norm 1.0; one site's update has the norm 1 and the others' next to nothing):
#   equal numbers: the site moves the model by 0.25, noise 0.25, a multiplier of 1.00, an epsilon of 4.4
#   91% of the patients: the site moves the model by 0.91, noise 0.25, a multiplier of 0.27, an epsilon of 21.6
#   3% of the patients: the site moves the model by 0.03, noise 0.25, a multiplier of 8.31, an epsilon of 0.4
#   two of four answered: the site moves the model by 0.50, noise 0.25, a multiplier of 0.50, an epsilon of 10.0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6 scipy==1.17.1
cat > "$work/look.py" <<'PY'
import logging
import math

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from flwr.supercore.task_identity import TaskIdentity
from scipy.optimize import brentq
from scipy.stats import norm

TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # a message is made outside a run
logging.getLogger("flwr").setLevel(logging.ERROR)
SIZE = 100_000


class Grid:
    def get_node_ids(self):
        return [1, 2, 3, 4]


def record(values):
    return ArrayRecord({"w": Array(np.array(values))})


def reply(length, n_examples):
    content = RecordDict({"arrays": record(np.full(SIZE, length / SIZE**0.5)), "metrics": MetricRecord({"num-examples": n_examples})})
    return Message(content, reply_to=Message(RecordDict(), dst_node_id=1, message_type="train"))


def aggregated(noise_multiplier, numbers):
    strategy = DifferentialPrivacyServerSideFixedClipping(
        FedAvg(), noise_multiplier=noise_multiplier, clipping_norm=1.0, num_sampled_clients=4
    )
    np.random.seed(0)
    list(strategy.configure_train(1, record(np.zeros(SIZE)), ConfigRecord(), Grid()))
    replies = [reply(1.0 if place == 0 else 1e-9, number) for place, number in enumerate(numbers)]
    arrays, _ = strategy.aggregate_train(1, replies)
    return arrays["w"].numpy()


def epsilon_of(multiplier):
    """At a delta of 1e-5, of one Gaussian mechanism (Balle and Wang 2018, theorem 8)."""

    def excess(epsilon):
        lower = math.exp(epsilon + norm.logcdf(-1 / (2 * multiplier) - epsilon * multiplier))
        return norm.cdf(1 / (2 * multiplier) - epsilon * multiplier) - lower - 1e-5

    return brentq(excess, 1e-3, 1e4)


for case, numbers in (
    ("equal numbers", [100, 100, 100, 100]),
    ("91% of the patients", [910, 30, 30, 30]),
    ("3% of the patients", [30, 910, 30, 30]),
    ("two of four answered", [100, 100]),
):
    moved = aggregated(0.0, numbers)
    far, noise = float(np.linalg.norm(moved)), float(np.std(aggregated(1.0, numbers) - moved))
    print(
        f"{case}: the site moves the model by {far:.2f}, noise {noise:.2f}, a multiplier of {noise / far:.2f}, "
        f"an epsilon of {epsilon_of(noise / far):.1f}"
    )
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
