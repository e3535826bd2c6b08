"""What a method does to every patient of a site's test split: the scores, their variants, and what it invents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.site_home import SiteHome
from fedminet.experiment.analysis.faithfulness import faithfulness_of
from fedminet.experiment.analysis.metric_conventions import conventional_metrics
from fedminet.experiment.analysis.reference_swap import ReferenceSwap, reference_swap
from minet_core.evaluation.inference import super_resolve
from minet_core.evaluation.metrics import volume_metrics
from minet_core.evaluation.volume_scores import MODEL, degraded_volume, interpolated_volume
from minet_core.models.base import SuperResolver
from minet_core.protocol.messages import SCORES
from minet_core.settings.yaml_file import Settings
from minet_core.training.device import autocast_dtype_for, device_of
from sites.store.store import Store


class PatientScores(Settings):
    """One test patient. psnr_db, ssim, nmse: by the fastMRI definition, over the volume; of a patient who was examined
    more than once, as everything here, the mean over the examinations: they are not independent of one another.

    conventions: by the name of a definition, the same three. faithfulness: see
    `fedminet.experiment.analysis.faithfulness`; without the figures of the swapped reference for a method that looks
    at none.
    """

    psnr_db: float
    ssim: float
    nmse: float
    conventions: dict[str, dict[str, float]]
    faithfulness: dict[str, float | None]


def tested_patients(method: SuperResolver | str, home: SiteHome, *, scale: int) -> Iterator[PatientScores]:
    """Test a model, or a method of interpolation by its name, on each test patient of a site."""
    store = Store(home.store)
    patients = {pair.name: pair.patient for pair in store.cohort.pairs}
    tested: dict[str, list[PatientScores]] = {}
    for name, scores in _tested_volumes(method, store, scale=scale):
        tested.setdefault(patients[name], []).append(scores)
    for examinations in tested.values():
        yield mean_scores(examinations)


def mean_scores(examinations: Sequence[PatientScores]) -> PatientScores:
    """The mean of each figure; of one that some examinations have not, over the others."""
    contents = [scores.model_dump() for scores in examinations]
    conventions = {
        name: _means([content["conventions"][name] for content in contents])
        for name in contents[0]["conventions"]
    }
    faithfulness = _means([content["faithfulness"] for content in contents])
    volume = _means([{score: content[score] for score in SCORES} for content in contents])
    return PatientScores.model_validate({**volume, "conventions": conventions, "faithfulness": faithfulness})


def _means(found: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    values = {name: [value for one in found if (value := one.get(name)) is not None] for name in found[0]}
    return {name: float(np.mean(there)) if there else None for name, there in values.items()}


def _tested_volumes(
    method: SuperResolver | str, store: Store, *, scale: int
) -> Iterator[tuple[str, PatientScores]]:
    """By the name of each test pair, what its volume scores."""
    for name, target, reference in store.volumes("test"):
        truth, low_res, guide = degraded_volume(target, reference, scale=scale)
        image = restored(method, low_res, guide, scale=scale)
        images = {"target": truth, "low_res": low_res, "reference": guide, MODEL: image}
        stranger = stranger_of(store, name)
        found = faithfulness_of(images, scale=scale, swap=_swapped(method, images, stranger, scale=scale))
        scores = PatientScores(
            **volume_metrics(truth, image),
            conventions=conventional_metrics(truth, image),
            faithfulness=found.columns(),
        )
        yield name, scores


def restored(
    method: SuperResolver | str, low_res: NDArray[np.float32], reference: NDArray[np.float32], *, scale: int
) -> NDArray[np.float32]:
    """The high-resolution volume (S, H, W) that a method makes of (S, h, w)."""
    if isinstance(method, str):
        return interpolated_volume(low_res, method, scale=scale)
    precision = autocast_dtype_for(device_of(method))
    return super_resolve(method, low_res, reference, scale=scale, autocast_dtype=precision)


def _swapped(
    method: SuperResolver | str,
    images: dict[str, NDArray[np.float32]],
    stranger: NDArray[Any] | None,
    *,
    scale: int,
) -> ReferenceSwap | None:
    """What another patient's reference does; None for a method that looks at none, or without another patient."""
    if not isinstance(method, SuperResolver) or not method.uses_reference or stranger is None:
        return None
    precision = autocast_dtype_for(device_of(method))
    return reference_swap(method, images, stranger, scale=scale, autocast_dtype=precision)


def stranger_of(store: Store, name: str) -> NDArray[Any] | None:
    """The reference of the patient after that of pair `name`, all slices with anatomy: of the test split or, where that
    has one patient, of the others. None where the store has no other patient."""
    patient = next(pair.patient for pair in store.cohort.pairs if pair.name == name)
    for split in ("test", "training", "validation"):
        others = [pair for pair, _ in store.cohort.pairs_of(split) if pair.patient != patient]
        if others:
            chosen = min(others, key=lambda pair: (pair.name < name, pair.name))
            first, stop = chosen.usable_slices
            return store.read_pair(chosen).reference.array[first:stop]
    return None
