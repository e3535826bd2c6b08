#!/bin/sh
# lightning 2.6.6 and accelerate 1.15.0: gradients that are accumulated over k batches are divided by k, also where fewer than k were there. The
# optimizer steps after the last batch of an epoch in any case; that step is of r batches and divided by k, thus r / k of what it
# should be. An epoch of fewer than k batches is one such step alone: with k = 8 a hospital of 2 batches trains at a quarter of the learning
# rate that all agreed on, and one of 16 at all of it. With SGD its change of the model, which is all that federated averaging has of it,
# is that much shorter, before its weight by cases makes it small once more; Adam hides it where every step is such a step, and where only the last of
# several is, it counts for too little there too. Lightning's documentation does not say which of it is done (issue 19987 of its repository, open);
# accelerate's says that the step at the end of the data is taken. Nothing is raised or warned of. Remedies: k that divides every site's
# number of batches, or a loop of one's own that divides by the batches that were there.
#
# Output seen (SGD, learning rate 1, every batch's gradient is 1; how far one epoch moves the weight, and in how many steps):
#   k = 8, an epoch of 1: Lightning 0.125 in 1, accelerate 0.125 in 1, by the batches that were there 1 in 1
#   k = 8, an epoch of 2: Lightning 0.250 in 1, accelerate 0.250 in 1, by the batches that were there 1 in 1
#   k = 8, an epoch of 4: Lightning 0.500 in 1, accelerate 0.500 in 1, by the batches that were there 1 in 1
#   k = 8, an epoch of 8: Lightning 1.000 in 1, accelerate 1.000 in 1, by the batches that were there 1 in 1
#   k = 8, an epoch of 9: Lightning 1.125 in 2, accelerate 1.125 in 2, by the batches that were there 2 in 2
#   k = 8, an epoch of 16: Lightning 2.000 in 2, accelerate 2.000 in 2, by the batches that were there 2 in 2
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  lightning==2.6.6 accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import math

import lightning
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

N_ACCUMULATED = 8


def loader(n_batches):
    return DataLoader(TensorDataset(torch.ones(2 * n_batches, 1)), batch_size=2)


class Network(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return -(self.weight * batch).mean()

    def training_step(self, batch, number):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1.0)


def by_lightning(n_batches):
    network = Network()
    trainer = lightning.Trainer(
        max_epochs=1, accumulate_grad_batches=N_ACCUMULATED, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(network, loader(n_batches))
    return float(network.weight), trainer.global_step


def by_accelerate(n_batches):
    accelerator = Accelerator(gradient_accumulation_steps=N_ACCUMULATED, cpu=True)
    network = Network()
    network, optimizer, batches = accelerator.prepare(network, network.configure_optimizers(), loader(n_batches))
    n_steps = 0
    for (batch,) in batches:
        with accelerator.accumulate(network):
            accelerator.backward(network(batch))
            optimizer.step()
            n_steps += accelerator.sync_gradients
            optimizer.zero_grad()
    return float(network.weight), n_steps


for n_batches in (1, 2, 4, 8, 9, 16):
    (far, n_steps), (far_2, n_steps_2) = by_lightning(n_batches), by_accelerate(n_batches)
    right = math.ceil(n_batches / N_ACCUMULATED)
    print(
        f"k = {N_ACCUMULATED}, an epoch of {n_batches}: Lightning {far:.3f} in {n_steps}, "
        f"accelerate {far_2:.3f} in {n_steps_2}, by the batches that were there {right} in {right}"
    )
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
