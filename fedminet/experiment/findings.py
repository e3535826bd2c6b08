"""What an experiment's cells say in sentences: where the order is not the paper's, where a site does better alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from fedminet.experiment.methods import METHODS, is_learned
from fedminet.experiment.results import BEST, Results, score_named
from fedminet.experiment.statistics import estimate, paired_differences, paired_p


def order_found(results: Results) -> list[str]:
    """The order that the paper has, interpolation < single-contrast < multi-contrast with MINet first: where it is not
    so, by mean PSNR of the main mode."""
    mode = results.main_mode()
    lines = []
    for scale in results.scales():
        for site in results.sites:
            means = {
                method: estimate(found, same_patients=results.same_patients).mean
                for method in results.methods
                if (
                    found := results.scores(
                        method, site, scale=scale, mode=mode, score=score_named("psnr_db")
                    )
                )
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
        if means[best] >= means[worst]:
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


def worse_than_local(results: Results) -> list[str]:
    """Where the global model is worse than a site's own, in words."""
    lines = []
    for scale in results.scales():
        for method in filter(is_learned, results.methods):
            for site in results.sites:
                ours, own = (
                    results.scores(method, site, scale=scale, mode=mode, score=score_named("psnr_db"))
                    for mode in ("federated", "local")
                )
                differences = paired_differences(ours, own, same_patients=results.same_patients)
                if len(differences) and differences.mean() < 0:
                    p = paired_p(differences)
                    lines.append(
                        f"{METHODS[method].label} at {scale}x: on {site} the global model is "
                        f"{-differences.mean():.2f} dB worse than the site's own"
                        + ("." if p is None else f" (p {p:.3f}).")
                    )
    return lines
