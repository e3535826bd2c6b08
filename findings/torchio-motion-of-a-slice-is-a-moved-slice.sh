#!/bin/sh
# torchio 1.2.1 with torch 2.13.0: RandomMotion ("Add random MRI motion artifact") moves the picture, and puts the k-space of the result together of the
# positions' k-spaces, line after line along the third axis ("always using the last dimension", issue 81 of its repository). (1) A single slice, which torchio
# takes as N x M x 1, has one line there: all of k-space is that of the last position. The result has no artifact; it is the same sharp
# slice, moved, and the label, the reference or the target beside it stays where it was. A network for slices that is to learn to bear motion
# learns misplaced pairs. (2) In a volume each position is turned about another point than the picture's middle, which the code
# does set: on the way through a 4 x 4 matrix the middle is lost, and the point is the scanner's origin (0, 0, 0), or a corner of an array
# without an affine. A ball in the middle of the picture that is turned by 5 degrees stays what it is; 100 mm from the origin it is off
# by a third of its brightness. So the same patient at another table position, or from another site, moves by another amount, and
# "degrees" says little of it. Nothing is raised or warned of; the documentation names neither the axis nor the point. RandomAffine
# turns about the middle. Remedies: stacks whose third axis is the phase's, and an affine that has the picture's middle at the origin.
#
# Output seen (a slice and a ball of 1; in the second part turns alone, by 5 degrees and back):
#   slice, moved by 8 mm and then by 4 mm: differs from the slice that is moved by 4 mm by 0.00, from the slice by 1.00
#   RandomMotion, shifts of up to 10 mm, 20 slices: signal outside of where the object was moved to, at most 0.00
#   the same of a volume: at most 0.10
#   a ball in the middle, turned by 5 degrees, picture's middle at the origin: off by at most 0.04
#   the same, 100 mm from the origin: off by at most 0.34
#   the same, no affine: off by at most 0.35
#   turned by RandomAffine by 5 degrees, 100 mm from the origin: off by at most 0.06
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check torchio==1.2.1 torch==2.13.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import warnings

import numpy as np
import torch
import torchio as tio

SIDE = 64
axis = np.arange(SIDE) - (SIDE - 1) / 2


def image(values: np.ndarray, *, middle: float | None = 0.0) -> tio.ScalarImage:
    """Picture with voxels of 1 mm, whose middle lies that far to the patient's right; None for no affine."""
    affine = np.eye(4)
    if middle is not None:
        affine[:3, 3] = -(np.array(values.shape) - 1) / 2
        affine[0, 3] += middle
    tensor = torch.tensor(values, dtype=torch.float32)[None]
    return tio.ScalarImage(tensor=tensor) if middle is None else tio.ScalarImage(tensor=tensor, affine=affine)


def motion(*, degrees: list, shifts: list, times: list) -> tio.Motion:
    return tio.Motion(
        degrees=np.array(degrees, dtype=float),
        translation=np.array(shifts, dtype=float),
        times=np.array(times),
        image_interpolation="linear",
    )


def off(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


caught = warnings.catch_warnings(record=True)
with caught as told:
    warnings.simplefilter("always", UserWarning)
    square = (np.abs(axis) < 16).astype(float)
    slice_ = (square[:, None] * (np.abs(axis) < 10))[..., None]
    moved = motion(degrees=[[0, 0, 0]] * 2, shifts=[[8, 0, 0], [4, 0, 0]], times=[1 / 3, 2 / 3])(image(slice_)).numpy()[0]
    nearest = min(off(moved, np.roll(slice_, step, 0)) for step in (-4, 4))
    print(
        "slice, moved by 8 mm and then by 4 mm: differs from the slice that is moved by 4 mm by "
        f"{nearest:.2f}, from the slice by {off(moved, slice_):.2f}"
    )

    outside = np.abs(axis) > 28  # the object ends at 16 and moves by 10 mm
    torch.manual_seed(0)
    random_motion = tio.RandomMotion(degrees=0, translation=10)
    ghosts = [np.abs(random_motion(image(slice_)).numpy()[0])[outside].max() for _ in range(20)]
    ghosts_sideways = [np.abs(random_motion(image(slice_)).numpy()[0])[:, outside].max() for _ in range(20)]
    worst = max(*ghosts, *ghosts_sideways)
    print(f"RandomMotion, shifts of up to 10 mm, 20 slices: signal outside of where the object was moved to, at most {worst:.2f}")
    block = square[:, None, None] * square[:, None] * square
    ghosts = [np.abs(random_motion(image(block)).numpy()[0])[:, :, outside].max() for _ in range(5)]
    print(f"the same of a volume: at most {max(ghosts):.2f}")

    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    ball = 1 / (1 + np.exp(((radius - 12) / 0.4).clip(-50, 50)))
    turn = motion(degrees=[[0, 0, 5], [0, 0, -5]], shifts=[[0, 0, 0]] * 2, times=[0.4, 0.6])
    for name, middle in (
        ("a ball in the middle, turned by 5 degrees, picture's middle at the origin", 0.0),
        ("the same, 100 mm from the origin", 100.0),
        ("the same, no affine", None),
    ):
        print(f"{name}: off by at most {off(turn(image(ball, middle=middle)).numpy()[0], ball):.2f}")
    turned = tio.RandomAffine(scales=0, degrees=(0, 0, 0, 0, 5, 5))(image(ball, middle=100.0)).numpy()[0]
    print(f"turned by RandomAffine by 5 degrees, 100 mm from the origin: off by at most {off(turned, ball):.2f}")
print("warned:", "; ".join(sorted({str(one.message)[:60] for one in told})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
