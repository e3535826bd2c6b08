"""What differs between the patients of one site, beyond the shape of their anatomy.

Age with atrophy and lesions, tissue times, the field strength, the protocol as it was set that day, coil, noise and
motion. All of it is drawn from the patient's seed by generators of its own, so the patients without variety keep their
bytes. The ranges are set once, after the sources below or by plausibility where none is named, and not by what a model
makes of them:

- Tissue times: the standard deviations over subjects of Wright et al. (2008) and Gold et al. (2004) are 5 to 10%.
- 1.5 T: T1 is 0.6 to 0.9 of that at 3 T and T2 about the same (Stanisz et al. 2005); the noise is twice that of 3 T.
- Ventricles about double between 20 and 90 years; sulci widen, the ribbon thins (Scahill et al., Arch Neurol 60:989,
  2003). White-matter lesions become common with age; focal ones of 8 to 16 mm stand for strokes and tumours.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from minet_core.phantom.acquisition import Acquisition, Contrast
from minet_core.phantom.brain.anatomy import Brain
from minet_core.phantom.brain.lesions import Lesion
from minet_core.phantom.knee.anatomy import Knee
from minet_core.phantom.scanner import Movement
from minet_core.phantom.tissues import TISSUES, Tissue
from minet_core.seeds import numpy_generator

AGES = (20.0, 90.0)
"""Years, uniform."""

SHARE_AT_LOW_FIELD = 0.25
"""Patients of a site who were scanned on its 1.5 T scanner."""

SHARE_WITH_FOCUS = 0.15
"""Patients with one large lesion."""

SHARE_MOVED = 0.25
"""Scans of a contrast during which the patient moved."""


@dataclass(frozen=True)
class Variety:
    """One patient, apart from the anatomy that the seed draws.

    acquisition: the site's protocol as it was for this patient. tissues: by name. ageing: 0 for the youngest to 1.
    movements: by the contrast's name, none where the patient lay still.
    """

    acquisition: Acquisition
    tissues: dict[str, Tissue]
    ageing: float
    movements: dict[str, Movement]


def draw_variety(acquisition: Acquisition, *, seed: int) -> Variety:
    """Draw what is a patient's own.

    Parameters
    ----------
    acquisition
        The site's protocol; left as it is.
    seed
        Of the patient, as `make_patient` takes it.

    Returns
    -------
    Variety
        The same for the same site and seed, whatever the number of slices.

    Examples
    --------
    >>> from minet_core.phantom.acquisition import SITES
    >>> from minet_core.phantom.variety import draw_variety
    >>> ours = draw_variety(SITES["sms"], seed=1)
    >>> ours.acquisition.target.echo_time_ms != SITES["sms"].target.echo_time_ms
    True
    """
    generator = numpy_generator(seed, acquisition.name, "variety")
    ageing = float(generator.uniform())
    low_field = bool(generator.uniform() < SHARE_AT_LOW_FIELD)
    movements: dict[str, Movement] = {
        contrast.name: Movement(
            rows_mm=float(generator.normal(0.0, 0.6)),
            columns_mm=float(generator.normal(0.0, 0.6)),
            since=float(generator.uniform(0.55, 0.95)),
        )
        for contrast in acquisition.contrasts
        if generator.uniform() < SHARE_MOVED
    }
    return Variety(
        _protocol(acquisition, generator, low_field=low_field),
        _tissues(generator, low_field=low_field),
        ageing,
        movements,
    )


def _protocol(acquisition: Acquisition, generator: np.random.Generator, *, low_field: bool) -> Acquisition:
    uniform = generator.uniform

    def jittered(contrast: Contrast) -> Contrast:
        return dataclasses.replace(
            contrast,
            repetition_time_ms=contrast.repetition_time_ms * float(uniform(0.9, 1.1)),
            echo_time_ms=contrast.echo_time_ms * float(uniform(0.9, 1.1)),
        )

    return dataclasses.replace(
        acquisition,
        reference=jittered(acquisition.reference),
        target=jittered(acquisition.target),
        noise=acquisition.noise * float(generator.lognormal(0.0, 0.2)) * (2.0 if low_field else 1.0),
        bias=acquisition.bias * float(uniform(0.5, 1.6)),
        phase_cycles=acquisition.phase_cycles * float(uniform(0.5, 1.5)),
        blur_px=acquisition.blur_px * float(uniform(0.7, 1.4)),
        distortion=acquisition.distortion * float(uniform(0.5, 1.5)),
        fat_residual=float(uniform(0.03, 0.15)),
    )


def _tissues(generator: np.random.Generator, *, low_field: bool) -> dict[str, Tissue]:
    t1, t2 = (0.75, 1.03) if low_field else (1.0, 1.0)
    return {
        name: dataclasses.replace(
            tissue,
            t1_ms=tissue.t1_ms * t1 * float(generator.lognormal(0.0, 0.06)),
            t2_ms=tissue.t2_ms * t2 * float(generator.lognormal(0.0, 0.07)),
            proton_density=min(1.0, tissue.proton_density * float(generator.lognormal(0.0, 0.03))),
            texture=tissue.texture * float(generator.uniform(0.6, 1.5)),
        )
        for name, tissue in TISSUES.items()
    }


def aged_brain(brain: Brain, ageing: float, generator: np.random.Generator) -> Brain:
    """A head at an age: wider ventricles and sulci, a thinner ribbon, more lesions; in some a large one.

    Parameters
    ----------
    brain
        As it was drawn; left as it is.
    ageing
        0 for the youngest adult to 1.
    generator
        Draws what is the patient's own.

    Returns
    -------
    Brain
        A copy.
    """
    normal, cortex = generator.normal, brain.cortex
    common = [lesion for lesion in brain.lesions if lesion.tissue == "demyelination"]
    others = [lesion for lesion in brain.lesions if lesion.tissue != "demyelination"]
    kept = round(len(common) * min(1.0, 0.15 + 1.3 * ageing**2))
    focus = _focus(
        generator, tissue="demyelination", extent_mm=(42.0, 55.0, 26.0), middle_mm=(0.0, -5.0, 22.0)
    )
    return dataclasses.replace(
        brain,
        ventricles=brain.ventricles * (0.75 + 0.9 * ageing) * float(np.exp(normal(0.0, 0.12))),
        cortex=dataclasses.replace(
            cortex,
            sulcus_mm=cortex.sulcus_mm * (0.8 + 0.9 * ageing) * float(np.exp(normal(0.0, 0.1))),
            ribbon_mm=cortex.ribbon_mm * (1.08 - 0.2 * ageing),
        ),
        scalp_mm=brain.scalp_mm * float(np.exp(normal(0.0, 0.2))),
        lesions=[*common[:kept], *others, *focus],
    )


def aged_knee(knee: Knee, ageing: float, generator: np.random.Generator) -> Knee:
    """A knee at an age: thinner cartilage, a narrower gap, more fluid, more oedema of the marrow; in some a large one.

    Parameters
    ----------
    knee
        As it was drawn; left as it is.
    ageing
        0 for the youngest adult to 1.
    generator
        Draws what is the patient's own.

    Returns
    -------
    Knee
        A copy.
    """
    normal, joint = generator.normal, knee.joint
    common = [lesion for lesion in knee.lesions if lesion.tissue == "marrow_oedema"]
    others = [lesion for lesion in knee.lesions if lesion.tissue != "marrow_oedema"]
    kept = round(len(common) * min(1.0, 0.15 + 1.1 * ageing))
    focus = _focus(generator, tissue="marrow_oedema", extent_mm=(30.0, 30.0, 20.0), middle_mm=(0.0, 0.0, 3.0))
    return dataclasses.replace(
        knee,
        joint=dataclasses.replace(
            joint,
            cartilage_mm=joint.cartilage_mm * (1.15 - 0.5 * ageing),
            gap_mm=joint.gap_mm * (1.1 - 0.5 * ageing),
            effusion_mm=joint.effusion_mm * (0.6 + 1.0 * ageing) * float(np.exp(normal(0.0, 0.3))),
            fat_mm=joint.fat_mm * float(np.exp(normal(0.0, 0.25))),
        ),
        lesions=[*common[:kept], *others, *focus],
    )


def _focus(
    generator: np.random.Generator,
    *,
    tissue: str,
    extent_mm: tuple[float, float, float],
    middle_mm: tuple[float, float, float],
) -> list[Lesion]:
    """A lesion of 8 to 16 mm in some patients, none in the others."""
    if generator.uniform() >= SHARE_WITH_FOCUS:
        return []
    x, y, z = (
        float(generator.uniform(middle - half, middle + half))
        for middle, half in zip(middle_mm, extent_mm, strict=True)
    )
    radius = float(generator.uniform(8.0, 16.0))
    return [Lesion(tissue, (x, y, z), (radius, 0.8 * radius, radius), float(generator.uniform(0.0, np.pi)))]
