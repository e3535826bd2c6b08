from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedminet.experiment.analysis.reference_swap import (
    ReferenceSwap,
    fit_to_shape,
    reference_leakage,
    reference_swap,
)
from minet_core.errors import MetricInvalid
from minet_core.evaluation.metrics import psnr
from minet_core.evaluation.volume_scores import evaluate_volume
from minet_core.imaging.fourier_rings import invented_share
from minet_core.imaging.kspace_band import data_inconsistency
from tests.support.made_patients import Ignores, Pastes, detail_of, low_res_of, made_patient, zero_filled
from tests.support.surrogates import surrogate_volume

Array = NDArray[np.float64]
both_scales = pytest.mark.parametrize("scale", [2, 4])


@both_scales
def test_a_model_that_ignores_the_reference_scores_zero(scale: int) -> None:
    truth, reference = made_patient(0)
    images = evaluate_volume(Ignores(), truth, reference, scale=scale, keep_images=True).images
    assert images is not None
    swap = reference_swap(Ignores(), images, made_patient(1)[1], scale=scale)
    inconsistency = data_inconsistency(images["global"], images["low_res"], scale)
    invented = invented_share(images["global"], images["target"], scale=scale)
    assert swap == ReferenceSwap(0.0, 0.0, 0.0, inconsistency, invented)


@both_scales
@pytest.mark.parametrize("gain", [0.5, -0.5, 0.02])
def test_a_model_that_pastes_edges_is_found_whatever_their_sign_and_strength(scale: int, gain: float) -> None:
    truth, reference = made_patient(0)
    model = Pastes(scale, gain)
    images = evaluate_volume(model, truth, reference, scale=scale, keep_images=True).images
    assert images is not None
    swap = reference_swap(model, images, made_patient(1)[1], scale=scale)
    # The clamp at zero and each slice's own normalisation take a little off.
    assert 0.95 < swap.painted <= 1
    assert (swap.painted_energy > 0.02) == (abs(gain) > 0.1)


def test_the_drop_is_that_of_psnr_and_the_foreign_image_is_held_to_the_data() -> None:
    truth, reference = made_patient(0)
    foreign = made_patient(1)[1]
    model = Pastes(2, 0.5)
    own_images = evaluate_volume(model, truth, reference, scale=2, keep_images=True).images
    foreign_images = evaluate_volume(model, truth, foreign, scale=2, keep_images=True).images
    assert own_images is not None
    assert foreign_images is not None
    swap = reference_swap(model, own_images, foreign, scale=2)
    drop = psnr(truth, own_images["global"]) - psnr(truth, foreign_images["global"])
    assert swap.psnr_drop_db == pytest.approx(drop, rel=1e-4)
    assert drop > 0.5  # the own head has its outline where the reference has it
    assert swap.data_inconsistency == data_inconsistency(
        foreign_images["global"], foreign_images["low_res"], 2
    )


def _share_and_amount(own_detail: Array, foreign_detail: Array) -> tuple[float, float]:
    """Of images of patient 0 with that detail, the foreign reference being patient 1's."""
    truth, reference = made_patient(0)
    image = zero_filled(low_res_of(truth, 2), 2)
    return reference_leakage(
        image + own_detail,
        image + foreign_detail,
        truth=truth,
        reference=reference,
        foreign_reference=made_patient(1)[1],
        scale=2,
    )


def _details() -> tuple[Array, Array, Array]:
    """Detail of the truth, of its reference, and of the foreign reference in the truth's units."""
    (truth, reference), (_, foreign) = made_patient(0), made_patient(1)
    own, guide, other = (detail_of(torch.tensor(v), 2).numpy() for v in (truth, reference, foreign))
    return own, guide, 150 * other


def test_detail_that_is_only_lost_is_not_painted() -> None:
    true_detail, own_edges, _ = _details()
    nothing = np.zeros_like(true_detail)
    assert _share_and_amount(true_detail, nothing) == (0.0, 0.0)
    assert _share_and_amount(true_detail, 0.3 * true_detail) == (0.0, 0.0)
    assert _share_and_amount(150 * own_edges, nothing) == (0.0, 0.0)


def test_what_replaces_lost_detail_is_painted() -> None:
    true_detail, _, foreign_edges = _details()
    share, amount = _share_and_amount(true_detail, 0.4 * foreign_edges)
    assert share == pytest.approx(1, abs=1e-6)
    # A tile of edges hardly resembles the own ones: a few hundredths are projected out.
    expected = 0.4**2 * np.sum(foreign_edges**2) / np.sum(true_detail**2)
    assert amount == pytest.approx(expected, rel=0.05)


def test_edges_in_one_contrast_here_and_in_the_opposite_there_are_painted() -> None:
    true_detail, _, foreign_edges = _details()
    columns = np.arange(foreign_edges.shape[2])
    sense = np.where(columns // 16 % 2, 1.0, -1.0)  # over the volume the senses cancel
    share, _ = _share_and_amount(true_detail, sense * foreign_edges)
    assert share > 0.95


def test_a_change_that_is_half_noise_is_painted_in_half_its_energy() -> None:
    true_detail, _, foreign_edges = _details()
    noise = np.random.default_rng(3).standard_normal(true_detail.shape)
    noise = detail_of(torch.tensor(noise), 2).numpy()
    noise *= np.linalg.norm(foreign_edges) / np.linalg.norm(noise)
    assert _share_and_amount(true_detail, foreign_edges + noise)[0] == pytest.approx(
        math.sqrt(1 / 2), abs=0.03
    )
    assert _share_and_amount(true_detail, noise)[0] < 0.1


def test_a_change_inside_the_measured_band_is_not_painted_but_contradicts_the_data() -> None:
    truth, reference = made_patient(0)
    image = zero_filled(low_res_of(truth, 2), 2)
    inside = zero_filled(low_res_of(made_patient(1)[1], 2), 2)
    arguments = {"truth": truth, "reference": reference, "foreign_reference": made_patient(1)[1], "scale": 2}
    assert reference_leakage(image, image + 20 * inside, **arguments) == (0.0, 0.0)
    assert data_inconsistency(np.abs(image + 20 * inside), low_res_of(truth, 2), 2) > 0.05


def test_a_foreign_reference_without_anatomy_of_its_own_is_refused() -> None:
    truth, reference = made_patient(0)
    model = Pastes(2, 0.5)
    images = evaluate_volume(model, truth, reference, scale=2, keep_images=True).images
    assert images is not None
    own_and_gain = 1.5 * images["reference"]
    with pytest.raises(MetricInvalid, match="no detail of its own"):
        reference_leakage(
            images["sinc"],
            images["target"],
            truth=truth,
            reference=reference,
            foreign_reference=own_and_gain,
            scale=2,
        )
    with pytest.raises(MetricInvalid, match="no detail of its own"):
        reference_swap(model, images, np.full(truth.shape, 7.0), scale=2)


@pytest.mark.surrogate
@both_scales
def test_on_real_patients_pasted_edges_are_found_and_chance_is_small(scale: int) -> None:
    target, reference = (surrogate_volume(f"brain_1mm/patient07/{c}", every=8) for c in ("T2", "T1"))
    foreign = surrogate_volume("brain_1mm/patient19/T1", every=8)
    model = Pastes(scale, -0.3)
    images = evaluate_volume(model, target, reference, scale=scale, keep_images=True).images
    assert images is not None
    swap = reference_swap(model, images, foreign, scale=scale)
    assert swap.painted > 0.95
    assert swap.psnr_drop_db > 0.1
    # The same change looked at with the foreign brain turned round: no more than chance.
    foreign = fit_to_shape(foreign, images["target"].shape)
    arguments = {"truth": images["target"], "reference": images["reference"], "scale": scale}
    image_with_foreign = images["sinc"] + 50 * detail_of(torch.tensor(foreign / foreign.std()), scale).numpy()
    own = images["global"]
    share, _ = reference_leakage(
        own, image_with_foreign, foreign_reference=foreign[:, ::-1].copy(), **arguments
    )
    assert share < 0.1


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 9, 4), (5, 5, 8), (4, 8, 7)])
def test_a_foreign_volume_is_fitted_about_its_centre(shape: tuple[int, int, int]) -> None:
    volume = np.zeros((4, 7, 6))
    volume[2, 3, 3] = 1.0  # index N // 2 of every axis
    fitted = fit_to_shape(volume, shape)
    assert fitted.shape == shape
    assert fitted.sum() == fitted[tuple(n // 2 for n in shape)] == 1


def test_fitting_keeps_what_fits_and_pads_with_zeros() -> None:
    volume = np.arange(2 * 4 * 6.0).reshape(2, 4, 6) + 1
    np.testing.assert_array_equal(fit_to_shape(volume, volume.shape), volume)
    fitted = fit_to_shape(volume, (4, 4, 2))
    np.testing.assert_array_equal(fitted[1:3], volume[:, :, 2:4])
    assert not fitted[[0, 3]].any()
    with pytest.raises(MetricInvalid, match="cannot be fitted"):
        fit_to_shape(volume[0], (4, 6, 1))


def test_volumes_that_cannot_be_compared_are_refused() -> None:
    truth, reference = made_patient(0)
    foreign = made_patient(1)[1]
    volumes = {"truth": truth, "reference": reference, "foreign_reference": foreign}
    small = {name: volume[:, :28] for name, volume in volumes.items()}
    with pytest.raises(MetricInvalid, match="at least 32 px"):
        reference_leakage(small["truth"], small["truth"] + 1, **small, scale=2)
    with pytest.raises(MetricInvalid, match="one shape"):
        reference_leakage(truth, truth + 1, **(volumes | {"foreign_reference": foreign[1:]}), scale=2)
    interpolated = zero_filled(low_res_of(truth, 2), 2)
    with pytest.raises(MetricInvalid, match="no detail to compare"):
        reference_leakage(truth, truth + 1, **(volumes | {"truth": interpolated}), scale=2)


def test_a_foreign_reference_of_another_size_with_phase_is_taken() -> None:
    truth, reference = made_patient(0)
    foreign = made_patient(1, size=(2, 90, 71))[1] * np.exp(0.5j)
    images = evaluate_volume(Pastes(2, 0.5), truth, reference, scale=2, keep_images=True).images
    assert images is not None
    assert reference_swap(Pastes(2, 0.5), images, foreign, scale=2).painted > 0.9
