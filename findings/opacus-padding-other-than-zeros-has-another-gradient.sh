#!/bin/sh
# opacus 1.6.0 with torch 2.13.0: the per-sample gradients of a convolution whose padding_mode is "reflect", "replicate" or "circular" are
# those of zeros around the picture. The forward pass pads as the layer says; the rule that opacus has for Conv1d, Conv2d and Conv3d
# reads the layer's padding and not its mode. Networks that restore pictures pad so in order to have no dark rim. The weights then
# learn from another loss than the one that is printed. A step is some percent another in patches of 16, more in smaller ones
# and in three dimensions; and where the true gradient vanishes this one does not, so that a fit, without any noise
# and clipping, ends at other weights with a larger error. ModuleValidator.validate names nothing
# wrong, and nothing is raised or warned of. Biases are right, and so is the privacy, for what is clipped and summed is one sample's still.
# grad_sample_mode="functorch" and "ew" give torch's gradient; so does a padding layer before a convolution that pads nothing.
#
# Output seen (noise 0 and a norm that clips nothing; the step's relative difference from torch's own, then what is left after a fit):
#   Conv2d, patches of 16, zeros: 0.000
#   Conv2d, patches of 16, reflect: 0.075
#   Conv2d, patches of 16, replicate: 0.081
#   Conv2d, patches of 16, circular: 0.076
#   Conv2d, patches of 8, reflect: 0.152
#   Conv2d, patches of 64, reflect: 0.019
#   Conv3d, patches of 16, replicate: 0.122
#   Conv1d, patches of 16, replicate: 0.059
#   Conv2d, patches of 16, reflect, functorch: 0.000
#   Conv2d, patches of 16, reflect, ew: 0.000
#   Conv2d, patches of 16, reflect by a layer before it: 0.000
#   a fit of one reflecting layer, mean squared error times 1000: torch 1.12, opacus 1.30, functorch 1.12
#   named by the validator: nothing
#   warned of padding: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check opacus==1.6.0 torch==2.13.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import warnings

import torch
from opacus import GradSampleModule, PrivacyEngine
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.functional import avg_pool2d, pad
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
AXES = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
NO_CLIPPING = 1e6
named = []


def network(conv: type[nn.Module], mode: str, *, layer_before: bool) -> nn.Sequential:
    torch.manual_seed(1)
    if layer_before:
        parts = [nn.ReflectionPad2d(1), conv(1, 8, 3), nn.ReLU(), nn.ReflectionPad2d(1), conv(8, 1, 3)]
    else:
        settings = {"padding": 1, "padding_mode": mode}
        parts = [conv(1, 8, 3, **settings), nn.ReLU(), conv(8, 1, 3, **settings)]
    return nn.Sequential(*parts)


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([values.detach().flatten().clone() for values in tensors])


def difference(conv: type[nn.Module], mode: str, side: int, *, how: str = "hooks", layer_before: bool = False) -> float:
    torch.manual_seed(2)
    target = torch.rand(4, 1, *[side] * AXES[conv])
    noisy = target + 0.1 * torch.randn_like(target)
    own = network(conv, mode, layer_before=layer_before)
    ((own(noisy) - target) ** 2).mean().backward()
    expected = flat([weight.grad for weight in own.parameters()])

    model = network(conv, mode, layer_before=layer_before)
    named.extend(ModuleValidator.validate(model))
    private, optimizer, loader = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        data_loader=DataLoader(TensorDataset(noisy, target), batch_size=4),
        noise_multiplier=0.0,
        max_grad_norm=NO_CLIPPING,
        poisson_sampling=False,
        grad_sample_mode=how,
    )
    before = flat(list(private.parameters()))
    for inputs, wanted in loader:
        optimizer.zero_grad()
        ((private(inputs) - wanted) ** 2).mean().backward()
        optimizer.step()
    step = before - flat(list(private.parameters()))
    return float((step - expected).norm() / expected.norm())


def fit(how: str) -> float:
    torch.manual_seed(2)
    sharp = mean_of_neighbours(torch.rand(8, 1, 16, 16))
    blurred = mean_of_neighbours(sharp) + 0.01 * torch.randn(8, 1, 16, 16)
    torch.manual_seed(1)
    model = nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect")
    if how != "torch":
        model = GradSampleModule(model, force_functorch=how == "functorch")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    if how != "torch":
        optimizer = DPOptimizer(optimizer, noise_multiplier=0.0, max_grad_norm=NO_CLIPPING, expected_batch_size=8)
    for _ in range(1500):
        optimizer.zero_grad()
        loss = ((model(blurred) - sharp) ** 2).mean()
        loss.backward()
        optimizer.step()
    return 1000 * float(loss.detach())


def mean_of_neighbours(picture: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(pad(picture, (1, 1, 1, 1), mode="reflect"), 3, 1)


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for mode in ("zeros", "reflect", "replicate", "circular"):
        print(f"Conv2d, patches of 16, {mode}: {difference(nn.Conv2d, mode, 16):.3f}")
    for side in (8, 64):
        print(f"Conv2d, patches of {side}, reflect: {difference(nn.Conv2d, 'reflect', side):.3f}")
    for conv in (nn.Conv3d, nn.Conv1d):
        print(f"{conv.__name__}, patches of 16, replicate: {difference(conv, 'replicate', 16):.3f}")
    for how in ("functorch", "ew"):
        print(f"Conv2d, patches of 16, reflect, {how}: {difference(nn.Conv2d, 'reflect', 16, how=how):.3f}")
    before = difference(nn.Conv2d, "zeros", 16, layer_before=True)
    print(f"Conv2d, patches of 16, reflect by a layer before it: {before:.3f}")
    errors = ", ".join(f"{how} {fit(how):.2f}" for how in ("torch", "opacus", "functorch"))
    print(f"a fit of one reflecting layer, mean squared error times 1000: {errors}")
print("named by the validator:", "; ".join(map(str, named)) or "nothing")
print("warned of padding:", "; ".join(str(one.message) for one in warned if "pad" in str(one.message)) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
