#!/bin/sh
# nvflare 2.9.0: FedAvg weights a site's parameters and metrics by the number under NUM_STEPS_CURRENT_ROUND in its reply's meta.
# What is no such number becomes 1: a missing key, and also 0, a negative number, NaN, text that is no number, and True. Nothing is
# logged of it. Where the others say how many steps they took, a site that forgot to, or writes the key in another way, counts
# as one step: of two sites the model is the other's to 99%, and the log says that both results were aggregated. Where weights
# are shares that add up to 1, a site that says 0, since it has nothing to add, is half of the sum of all. The older way,
# DXOAggregator of ScatterAndGather, warns of a missing key and takes 0 as 0: a job that moves from it to FedAvg changes without a word.
#
# Output seen (sites whose parameter is 0, 1 and 2; the mean of what they say):
#   steps 100, 300: 0.750, metric 0.750, logged nothing
#   steps 100, missing: 0.010, metric 0.010, logged nothing
#   steps 100, 0: 0.010, metric 0.010, logged nothing
#   steps 100, nan: 0.010, metric 0.010, logged nothing
#   steps 100, -300: 0.010, metric 0.010, logged nothing
#   shares 0.5, 0.5, 0: 1.250, metric 1.250, logged nothing
#   DXOAggregator, shares 0.5, 0.5, 0: 0.500
#   DXOAggregator, steps 100, missing: 0.010, it warns
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check nvflare==2.9.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import logging

import numpy as np
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.aggregators.dxo_aggregator import DXOAggregator
from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
from nvflare.app_common.workflows.fedavg import FedAvg

KEY = "NUM_STEPS_CURRENT_ROUND"
logging.disable(logging.CRITICAL)


class Logged(FedAvg):
    """The controller outside a job: what it would log is kept."""

    def __init__(self, n_sites: int) -> None:
        super().__init__(num_clients=n_sites)
        self.current_round, self.logged = 0, []
        self._aggr_helper, self._aggr_metrics_helper = WeightedAggregationHelper(), WeightedAggregationHelper()

    def info(self, *_: object) -> None:
        pass

    def warning(self, message: str, *_: object) -> None:
        self.logged.append(message)


def meta(steps: float | None) -> dict[str, object]:
    return {} if steps is None else {KEY: steps}


def said(steps: float | None) -> str:
    return "missing" if steps is None else f"{steps:g}"


def fedavg(name: str, *of_sites: float | None) -> None:
    controller = Logged(len(of_sites))
    for number, steps in enumerate(of_sites):
        value = float(number)
        reply = FLModel(
            params={"weight": np.full(2, value)},
            metrics={"loss": value},
            meta={"client_name": f"site-{number}", **meta(steps)},
            current_round=0,
        )
        controller._aggregate_one_result(reply)
    result = controller._get_aggregated_result()
    mean, metric = result.params["weight"][0], result.metrics["loss"]
    logged = "; ".join(controller.logged) or "nothing"
    print(f"{name} {', '.join(map(said, of_sites))}: {mean:.3f}, metric {metric:.3f}, logged {logged}")


class Aggregator(DXOAggregator):
    def log_warning(self, _: FLContext, message: str, **__: object) -> None:
        self.warned = getattr(self, "warned", False) or KEY in message


def dxo_aggregator(name: str, *of_sites: float | None) -> None:
    aggregator, context = Aggregator(expected_data_kind=DataKind.WEIGHTS), FLContext()
    context.set_prop("current_round", 0, private=True, sticky=False)
    for number, steps in enumerate(of_sites):
        reply = DXO(DataKind.WEIGHTS, data={"weight": np.full(2, float(number))}, meta=meta(steps))
        aggregator.accept(reply, f"site-{number}", 0, context)
    mean = aggregator.aggregate(context).data["weight"][0]
    warns = ", it warns" if getattr(aggregator, "warned", False) else ""
    print(f"DXOAggregator, {name} {', '.join(map(said, of_sites))}: {mean:.3f}{warns}")


fedavg("steps", 100, 300)
fedavg("steps", 100, None)
fedavg("steps", 100, 0)
fedavg("steps", 100, float("nan"))
fedavg("steps", 100, -300)
fedavg("shares", 0.5, 0.5, 0)
dxo_aggregator("shares", 0.5, 0.5, 0)
dxo_aggregator("steps", 100, None)
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
