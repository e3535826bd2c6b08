#!/bin/sh
# flwr 1.42.0 with torch 2.13.0: ArrayRecord(model.state_dict()), as the tutorials have it, holds more than weights where a network
# has BatchNorm: running means and variances, and num_batches_tracked, a count of steps. FedAvg's mean of them is harmless.
# Strategies that take squares of arrays treat the count as a weight, and a difference of 25 steps is larger than all that a round
# of training changes. MultiKrum leaves out the sites that trained on more patients, and keeps one whose first layer came out
# upside down. DifferentialPrivacyServerSideFixedClipping measures the norm of the count, and lets through a thirtieth of what the
# sites learned. FedAdam, as it is by default, moves a running variance in steps of up to 0.1 and with momentum, past 0: the
# global model's picture is NaN. The sites' training does not show it, for a network in training takes its batch's own variance.
# Nothing is raised or logged. The remedy is to send parameters alone, and GroupNorm or no norm in place of BatchNorm.
#
# Output seen (five sites train 20, 22, 30, 45 and 21 steps; at the last one the first layer comes out as -3 of itself):
#   MultiKrum, one of five may be wrong, everything sent: keeps the sites of 20, 22, 21 steps
#   MultiKrum, one of five may be wrong, without the count: keeps the sites of 20, 22, 30 steps
#   clipping to 1, everything sent: 0.04 of the mean update of the first layer
#   clipping to 1, without the count: 0.38 of the mean update of the first layer
#   clipping to 1, parameters alone: 1.00 of the mean update of the first layer
#   FedAdam, everything sent: a variance below 0 within 20 rounds: yes, then the picture is nan, the sites' training loss is finite
#   FedAdam, parameters alone: the picture is finite after 20 rounds
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0 torch==2.13.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import itertools
import logging

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAdam, FedAvg, MultiKrum
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor, nn

TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # a message is made outside a run
logging.getLogger("flwr").setLevel(logging.ERROR)
STEPS = [20, 22, 30, 45, 21]
Weights = dict[str, Tensor]


class Grid:
    def get_node_ids(self) -> list[int]:
        return [1, 2, 3, 4]


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
    )


def trained(start: Weights, n_steps: int, seed: int) -> tuple[Weights, float]:
    model = network()
    model.load_state_dict(start, strict=False)
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    for _ in range(n_steps):
        image = torch.rand(4, 1, 16, 16)
        loss = (model(image) - image).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}, float(loss)


def reply(weights: Weights) -> Message:
    content = RecordDict({"arrays": ArrayRecord(weights), "metrics": MetricRecord({"num-examples": 10})})
    return Message(content, reply_to=Message(RecordDict(), dst_node_id=1, message_type="train"))


PARAMETERS = {name for name, _ in network().named_parameters()}
SENT = {
    "everything sent": lambda name: True,
    "without the count": lambda name: "num_batches" not in name,
    "parameters alone": lambda name: name in PARAMETERS,
}


def part(weights: Weights, which: str) -> Weights:
    return {name: value for name, value in weights.items() if SENT[which](name)}


torch.manual_seed(1)
start = {name: value.clone() for name, value in network().state_dict().items()}
sites = [trained(start, n_steps, seed)[0] for seed, n_steps in enumerate(STEPS)]
sites[4]["0.weight"] *= -3

for which in ("everything sent", "without the count"):
    strategy = MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3)
    arrays, _ = strategy.aggregate_train(1, [reply(part(site, which)) for site in sites])
    layer = torch.from_numpy(arrays["0.weight"].numpy())
    for chosen in itertools.combinations(range(5), 3):
        if torch.allclose(sum(sites[i]["0.weight"] for i in chosen) / 3, layer, atol=1e-6):
            steps = ", ".join(str(STEPS[i]) for i in chosen)
            print(f"MultiKrum, one of five may be wrong, {which}: keeps the sites of {steps} steps")

mean_update = sum(site["0.weight"] for site in sites[:4]) / 4 - start["0.weight"]
for which in SENT:
    strategy = DifferentialPrivacyServerSideFixedClipping(
        FedAvg(min_train_nodes=4), noise_multiplier=0.0, clipping_norm=1.0, num_sampled_clients=4
    )
    list(strategy.configure_train(1, ArrayRecord(part(start, which)), ConfigRecord(), Grid()))
    arrays, _ = strategy.aggregate_train(1, [reply(part(site, which)) for site in sites[:4]])
    update = torch.from_numpy(arrays["0.weight"].numpy()) - start["0.weight"]
    print(f"clipping to 1, {which}: {float(update.norm() / mean_update.norm()):.2f} of the mean update of the first layer")

for which in ("everything sent", "parameters alone"):
    strategy = FedAdam()
    arrays = ArrayRecord(part(start, which))
    below, losses = False, []
    for number in range(1, 21):
        list(strategy.configure_train(number, arrays, ConfigRecord(), Grid()))
        weights = arrays.to_torch_state_dict()
        results = [trained(weights, 20, 100 * number + seed) for seed in range(2)]
        losses += [loss for _, loss in results]
        arrays, _ = strategy.aggregate_train(number, [reply(part(site, which)) for site, _ in results])
        model = network()
        model.load_state_dict(arrays.to_torch_state_dict(), strict=False)
        if float(model[1].running_var.min()) < 0:
            below = True
            break
    picture = model.eval()(torch.rand(1, 1, 16, 16))
    kind = "nan" if bool(picture.isnan().any()) else "finite"
    if which == "parameters alone":
        print(f"FedAdam, {which}: the picture is {kind} after 20 rounds")
    else:
        finite = "finite" if all(loss < 10 for loss in losses) else "not finite"
        said = f"then the picture is {kind}, the sites' training loss is {finite}"
        print(f"FedAdam, {which}: a variance below 0 within 20 rounds: {'yes' if below else 'no'}, {said}")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
