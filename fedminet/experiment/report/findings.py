"""What an experiment's cells say in sentences: where the order is not the paper's, where a site does better alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedminet.experiment.analysis.statistics import mean
from fedminet.experiment.methods import METHODS, is_learned
from fedminet.experiment.report.results import BEST, Results, difference_texts, score_named
from fedminet.experiment.study import Mode

PSNR = score_named("psnr_db")


def order_found(results: Results) -> list[str]:
    """The order that the paper has, interpolation < single-contrast < multi-contrast with MINet first: where it is not
    so, by mean PSNR of the main mode over the seeds that all methods have."""
    mode = results.main_mode()
    lines = []
    for scale in results.scales():
        for site in results.sites:
            found = {
                method: scores
                for method in results.methods
                if (scores := results.scores(method, site, scale=scale, mode=mode, score=PSNR))
            }
            common = set[int].intersection(*map(set, found.values())) if found else set()
            means = {
                method: mean({seed: scores[seed] for seed in common})
                for method, scores in found.items()
                if common
            }
            lines += [f"{site} at {scale}x: {breach}." for breach in _breaches(means)]
    return lines


_ORDER = ("interpolation", "single", "multi")


def _breaches(means: Mapping[str, float]) -> list[str]:
    by_kind = {
        kind: {method: mean for method, mean in means.items() if METHODS[method].contrasts == kind}
        for kind in _ORDER
    }
    lines = []
    for lower, higher in pairwise(_ORDER):
        if not by_kind[lower] or not by_kind[higher]:
            continue
        best = max(by_kind[lower], key=by_kind[lower].__getitem__)
        worst = min(by_kind[higher], key=by_kind[higher].__getitem__)
        if means[best] > means[worst]:
            lines.append(
                f"not the paper's order: {METHODS[best].label} is {means[best] - means[worst]:.2f} dB above "
                f"{METHODS[worst].label}"
            )
    if BEST in means:
        first = max(means, key=means.__getitem__)
        if first != BEST:
            lines.append(
                f"not the paper's order: {METHODS[first].label} is {means[first] - means[BEST]:.2f} dB above MINet"
            )
    return list(dict.fromkeys(lines))


def left_out(results: Results) -> list[str]:
    """What a site does not get from a federation of the others that it gets where it takes part, in words."""
    compared = _between(results, "without", "federated")
    texts = difference_texts(compared)
    return [
        f"{METHODS[method].label} at {scale}x: on {site} a federation of the others has "
        f"{texts[method, scale, site]} dB beside the one that it took part in."
        for method, scale, site in compared
    ]


def _between(results: Results, mine: Mode, other: Mode) -> dict[tuple[str, int, str], NDArray[np.float64]]:
    """By method, scale and site, the differences in PSNR of one way of training and another, patient by patient."""
    differences = {
        (method, scale, site): results.between_modes(method, site, mine, other, scale=scale, score=PSNR)
        for scale in results.scales()
        for method in filter(is_learned, results.methods)
        for site in results.sites
    }
    return {key: found for key, found in differences.items() if len(found)}


def worse_than_local(results: Results) -> list[str]:
    """Where the global model is worse than a site's own in PSNR or SSIM, in words; and on how many it is not."""
    compared = _between(results, "federated", "local")
    if not compared:
        return []
    texts = difference_texts(compared)
    worse = [key for key, found in compared.items() if found.mean() < 0]
    lines = [
        f"The global model against each site's own: better or alike in PSNR in {len(compared) - len(worse)} of "
        f"{len(compared)} pairs of a method and a site at a scale."
    ]
    for method, scale, site in compared:
        in_ssim = results.between_modes(
            method, site, "federated", "local", scale=scale, score=score_named("ssim")
        )
        if (method, scale, site) in worse or in_ssim.mean() < 0:
            lines.append(
                f"{METHODS[method].label} at {scale}x: on {site} the global model has "
                f"{texts[method, scale, site]} dB and {in_ssim.mean():+.4f} SSIM beside the site's own."
            )
    return lines
