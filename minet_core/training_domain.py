"""What a model was trained on, as its file carries it: so that a scan of another kind is told before it is believed.

Ranges over the training patients of all sites, coarsely rounded: voxel sizes to 0.1 mm, ratios to 0.05, noise to 0.01,
slopes to 0.1.
No figure is of one patient where a site has more than one, and none tells more than which kind of scan it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from minet_core.protocol import messages
from minet_core.settings.yaml_file import Settings

RATIO_STEP = 0.05
NOISE_STEP = 0.01
MM_STEP = 0.1
SLOPE_STEP = 0.1


class Span(Settings):
    """The least and the most of a figure."""

    low: float
    high: float


class TrainingDomain(Settings):
    """Of the training split of every site that a model was trained on."""

    target: tuple[str, ...] = Field(description="contrasts that were super-resolved")
    reference: tuple[str, ...] = Field(description="contrasts that guided")
    data_kind: tuple[str, ...] = Field(description="real, surrogate or phantom")
    pixel_mm: Span = Field(description="of the high resolution, in the plane")
    slice_mm: Span = Field(description="between slices")
    band: Span = Field(description="part of k-space that the low resolution fills")
    target_middle: Span = Field(description="median of the foreground over the 99th percentile")
    target_rim: Span = Field(
        description="median near the outline over that inside: a head has skin, a brain has not"
    )
    target_noise: Span = Field(description="standard deviation of the noise over the 99th percentile")
    reference_middle: Span
    reference_rim: Span
    reference_noise: Span
    target_slope: Span | None = Field(
        None,
        description="of the power over spatial frequency, of the sites that told it; null: of before it was measured",
    )

    @model_serializer(mode="wrap")
    def _as_before_the_slope(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the slope where there is none: a file of before it was measured keeps its digest."""
        content: dict[str, Any] = dump(self)
        if self.target_slope is None:
            content.pop("target_slope", None)
        return content

    def figures(self) -> dict[str, int | float]:
        """The domain as it travels: see `minet_core.protocol.messages.DOMAIN_FIGURES`.

        A site's domain has one contrast for each role and one kind.

        Returns
        -------
        dict
            Whole numbers for contrasts and kind, mm and ratios for the ends of the ranges.
        """
        content: dict[str, int | float] = {
            "domain_target": _index(self.target, messages.CONTRASTS),
            "domain_reference": _index(self.reference, messages.CONTRASTS),
            "domain_kind": messages.KINDS.index(self.data_kind[0]),
        }
        for name in messages.DOMAIN_SPANS:
            span: Span | None = getattr(self, name)
            if span is not None:
                content |= {f"domain_{name}_low": span.low, f"domain_{name}_high": span.high}
        return content


_OPTIONAL = {
    f"domain_{name}_{end}"
    for name in messages.DOMAIN_SPANS
    if not TrainingDomain.model_fields[name].is_required()
    for end in ("low", "high")
}
"""Figures of spans that a site of before they were measured does not tell."""


def domain_of_figures(figures: Mapping[str, float] | None) -> TrainingDomain | None:
    """The domain that a reply's checked figures tell of.

    Parameters
    ----------
    figures
        By name, or None where there is no reply.

    Returns
    -------
    TrainingDomain or None
        None where one of `DOMAIN_FIGURES` is missing, but for the ends of a span that a domain may be without.
    """
    if figures is None or any(name not in figures for name in messages.DOMAIN_FIGURES.keys() - _OPTIONAL):
        return None
    spans = {
        name: sorted((figures[f"domain_{name}_low"], figures[f"domain_{name}_high"]))
        for name in messages.DOMAIN_SPANS
        if {f"domain_{name}_low", f"domain_{name}_high"} <= figures.keys()
    }
    return TrainingDomain(
        target=(messages.CONTRASTS[int(figures["domain_target"])],),
        reference=(messages.CONTRASTS[int(figures["domain_reference"])],),
        data_kind=(messages.KINDS[int(figures["domain_kind"])],),
        **{name: Span(low=low, high=high) for name, (low, high) in spans.items()},
    )


def merged(domains: Iterable[TrainingDomain | None]) -> TrainingDomain | None:
    """The domain that holds all of some domains; in whatever order, and twice, the same.

    A span that some do not tell, as a site of before it was measured, is of those that do. A scan as unsharp as that
    site's own may then be called less sharp, which costs a look; with no span a picture worse than interpolation would
    be shown without a word, and one former site, or one former round, would silence it for all and for good.

    Parameters
    ----------
    domains
        Of sites; None where one has not told its own.

    Returns
    -------
    TrainingDomain or None
        None where there is none.
    """
    known = [domain for domain in domains if domain is not None]
    return reduce(_united, known) if known else None


def rounded_span(values: Sequence[float], step: float) -> Span:
    """The range of `values`, its ends rounded to multiples of `step`.

    Parameters
    ----------
    values
        At least one, in the unit of the figure.
    step
        In the same unit, above 0.

    Returns
    -------
    Span
        In the same unit.
    """
    digits = len(f"{step:.10f}".rstrip("0").split(".")[1])
    low, high = (round(round(value / step) * step, digits) for value in (min(values), max(values)))
    return Span(low=low, high=high)


def _united(one: TrainingDomain, other: TrainingDomain) -> TrainingDomain:
    told = {
        name: [span for domain in (one, other) if (span := getattr(domain, name)) is not None]
        for name in messages.DOMAIN_SPANS
    }
    spans = {
        name: Span(low=min(span.low for span in of_both), high=max(span.high for span in of_both))
        for name, of_both in told.items()
        if of_both
    }
    names = {
        name: tuple(sorted({*getattr(one, name), *getattr(other, name)}))
        for name in ("target", "reference", "data_kind")
    }
    return TrainingDomain(**names, **spans)


def _index(names: Sequence[str], known: Sequence[str]) -> int:
    return known.index(names[0]) if names[0] in known else 0
