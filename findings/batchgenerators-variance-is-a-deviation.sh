#!/bin/sh
# batchgenerators 0.25.5: GaussianNoiseTransform and RicianNoiseTransform take noise_variance ("variance is uniformly sampled from that range", "Adds rician
# noise with the given variance") and use it as the standard deviation. The default, and nnU-Net's augmentation, is a variance of 0 to 0.1; what is
# added has at most 0.01. Who repeats a published training in another library, by the variance that the paper and the configuration say, has more than
# three times the noise; above 1, as of pictures that are not normalised, there is more noise here than there: 4 for a deviation of 2. (2) Rician
# noise is what a magnitude picture has: air, which has no signal, gets a mean of 1.25 deviations, and no voxel stays 0.
# The transform multiplies its result by the sign of the picture, so that air of exactly 0, as of a masked or defaced scan or of phantoms,
# stays 0, every voxel, at any noise, and a hair above 0 it is as it should be; of a picture normalised to mean 0 what is below the mean becomes
# darker by noise, and never comes above 0. The docstring has of it "The Noise of MRI data tends to have a rician distribution". Nothing is raised or
# warned of; "will modify the value range of your data" is said. Remedies: the squares of the range; Rician noise before the normalisation, by
# MONAI's RandRicianNoise or by hand.
#
# Output seen (40,000 voxels; what was asked for, what there is):
#   Gaussian, variance 0.01: 0.0001, deviation 0.01
#   Gaussian, variance 0.1: 0.0099, deviation 0.10
#   Gaussian, variance 4: 15.8958, deviation 3.99
#   Rician in tissue of 5, variance 0.1: 0.0100
#   Rician in air of 0, variance 0.1: mean 0.000, voxels of 0 100%; by the distribution 0.396 and 0%
#   Rician in air of 0.001, variance 0.1, that is a deviation of 0.1: mean 0.125, voxels of 0 0%; by the distribution 0.125 and 0%
#   Rician at -0.05, variance 0.1: mean -0.133, above 0 0%
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 pandas==3.1.1
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps batchgenerators==0.25.5
cat > "$work/look.py" <<'PY'
import random
import warnings

import numpy as np
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform, RicianNoiseTransform

SHAPE = (1, 1, 200, 200)


def noisy(transform: type, *, level: float, variance: float) -> np.ndarray:
    random.seed(0)
    np.random.seed(0)
    data = np.full(SHAPE, level, dtype=np.float64)
    return transform(noise_variance=(variance, variance))(data=data)["data"]


def air_says(picture: np.ndarray, deviation: float) -> str:
    rayleigh = np.sqrt(np.pi / 2) * deviation
    return f"mean {picture.mean():.3f}, voxels of 0 {np.mean(picture == 0):.0%}; by the distribution {rayleigh:.3f} and 0%"


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for variance in (0.01, 0.1, 4):
        picture = noisy(GaussianNoiseTransform, level=5, variance=variance)
        print(f"Gaussian, variance {variance}: {picture.var():.4f}, deviation {picture.std():.2f}")
    picture = noisy(RicianNoiseTransform, level=5, variance=0.1)
    print(f"Rician in tissue of 5, variance 0.1: {picture.var():.4f}")
    picture = noisy(RicianNoiseTransform, level=0, variance=0.1)
    print(f"Rician in air of 0, variance 0.1: {air_says(picture, np.sqrt(0.1))}")
    picture = noisy(RicianNoiseTransform, level=0.001, variance=0.1)
    print(f"Rician in air of 0.001, variance 0.1, that is a deviation of 0.1: {air_says(picture, 0.1)}")
    picture = noisy(RicianNoiseTransform, level=-0.05, variance=0.1)
    print(f"Rician at -0.05, variance 0.1: mean {picture.mean():.3f}, above 0 {np.mean(picture > 0):.0%}")
print("warned:", "; ".join(sorted({str(one.message)[:60] for one in told})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
