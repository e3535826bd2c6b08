#!/bin/sh
# openfl 1.9: STCPipeline, of sparse ternary compression (Sattler et al. 2019), makes every site's update smaller by the share that it
# keeps. What is sent of an array is where its largest values are, their signs, and one magnitude. In the paper that is the mean of the
# values that were kept; here it is the mean of the whole array, the zeros in place of the others included. With the default
# p_sparsity of 0.1 each kept value arrives as a tenth of their mean, with 0.01 as a hundredth: a step of the federation is not a
# coarse one, it is hardly a step. Signs and places are right, the loss falls from round to round, and it looks like a small learning
# rate or a hard problem; raising p_sparsity seems to help since more is kept, and helps since it is multiplied by less. Nothing is
# carried over to the next round either. SKCPipeline, of the same sparse array, keeps the size. OpenFL's documentation says of the
# pipeline "retains only the (p*100)% absolute values of greatest magnitude" and "discretizes the sparse array into three buckets", the
# docstring "positive mean value, negative mean value and zero value". Nothing is raised or logged. Remedy: SKCPipeline or no compression.
#
# Output seen (an update of normal values; then the distance to the optimum that is left of two sites' least squares):
#   p_sparsity 0.01: 1% kept, mean magnitude 0.0286 sent as 0.0003, 100.0 times smaller
#   p_sparsity 0.1: 10% kept, mean magnitude 0.0206 sent as 0.0021, 10.0 times smaller
#   p_sparsity 0.5: 50% kept, mean magnitude 0.0127 sent as 0.0063, 2.0 times smaller
#   p_sparsity 1.0: 100% kept, mean magnitude 0.0080 sent as 0.0080, 1.0 times smaller
#   no compression, after 20, 100 and 200 rounds: 0.00 0.00 0.00
#   STCPipeline, after 20, 100 and 200 rounds: 0.83 0.50 0.29
#   the mean of what is kept, as in the paper, after 20, 100 and 200 rounds: 0.25 0.00 0.00
#   SKCPipeline, after 20, 100 and 200 rounds: 0.25 0.00 0.00
#   logged or warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    openfl==1.9 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import logging
import warnings
from collections.abc import Callable

import numpy as np
from openfl.pipelines import SKCPipeline, STCPipeline, TensorCodec
from openfl.pipelines.pipeline import TransformationPipeline
from openfl.utilities import TensorKey

Way = Callable[[np.ndarray], np.ndarray]
told: list[str] = []


class Kept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        told.append(record.getMessage())


def by(pipeline: TransformationPipeline) -> Way:
    """What the aggregator has of a site's difference, by OpenFL's own codec."""
    codec = TensorCodec(pipeline)

    def way(difference: np.ndarray) -> np.ndarray:
        key = TensorKey("weight", "site", 1, False, ("trained", "delta"))
        sent, data, metadata = codec.compress(key, difference)
        return codec.decompress(sent, data, metadata)[1]

    return way


def largest(values: np.ndarray, share: float) -> np.ndarray:
    return np.argsort(np.abs(values))[-int(np.ceil(share * values.size)) :]


def as_in_the_paper(difference: np.ndarray) -> np.ndarray:
    kept = largest(difference, 0.1)
    result = np.zeros_like(difference)
    result[kept] = np.sign(difference[kept]) * np.abs(difference[kept]).mean()
    return result


logging.getLogger().addHandler(Kept())
rng = np.random.default_rng(0)
update = rng.normal(0, 0.01, 10_000).astype(np.float32)
optimum = rng.normal(size=40).astype(np.float32)
sites = []
for n_samples in (200, 600):
    samples = rng.normal(size=(n_samples, 40)).astype(np.float32)
    sites.append((samples, samples @ optimum))


def trained(weight: np.ndarray, samples: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    for _ in range(5):
        weight = weight - 0.1 * samples.T @ (samples @ weight - wanted) / len(wanted)
    return weight


def federate(name: str, way: Way) -> None:
    weight, distances = np.zeros_like(optimum), {}
    for number in range(1, 201):
        arrived = [way(trained(weight, *site) - weight) for site in sites]
        shares = [len(wanted) / 800 for _, wanted in sites]
        weight = weight + sum(share * one for share, one in zip(shares, arrived, strict=True))
        distances[number] = np.linalg.norm(weight - optimum) / np.linalg.norm(optimum)
    left = " ".join(f"{distances[number]:.2f}" for number in (20, 100, 200))
    print(f"{name}, after 20, 100 and 200 rounds: {left}")


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for share in (0.01, 0.1, 0.5, 1.0):
        arrived = by(STCPipeline(p_sparsity=share))(update)
        before = np.abs(update[largest(update, share)]).mean()
        after = np.abs(arrived).max()
        kept = np.count_nonzero(arrived) / update.size
        print(f"p_sparsity {share}: {kept:.0%} kept, mean magnitude {before:.4f} sent as {after:.4f}, "
              f"{before / after:.1f} times smaller")
    federate("no compression", lambda difference: difference)
    federate("STCPipeline", by(STCPipeline()))
    federate("the mean of what is kept, as in the paper", as_in_the_paper)
    told += [str(one.message) for one in warned]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of fewer values than clusters
        federate("SKCPipeline", by(SKCPipeline()))
print("logged or warned:", "; ".join(told) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
