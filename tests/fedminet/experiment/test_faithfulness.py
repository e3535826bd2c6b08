from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fedminet.experiment.analysis.faithfulness import faithfulness_of
from fedminet.experiment.analysis.reference_swap import reference_swap
from minet_core.evaluation.volume_scores import evaluate_volume
from minet_core.imaging.fourier_rings import invented_share
from minet_core.imaging.kspace_band import correlation_outside_band, data_inconsistency, energy_outside_band
from tests.support.made_patients import Ignores, Pastes, made_patient
from tests.support.surrogates import surrogate_volume

Array = NDArray[np.float64]
both_scales = pytest.mark.parametrize("scale", [2, 4])


@pytest.mark.surrogate
@both_scales
def test_on_a_real_volume_sinc_keeps_to_the_data_and_bicubic_does_not(scale: int) -> None:
    target, reference = (surrogate_volume(f"brain_1mm/patient07/{c}", every=8) for c in ("T2", "T1"))
    images = evaluate_volume(Ignores(), target, reference, scale=scale, keep_images=True).images
    assert images is not None
    rows = {method: faithfulness_of(images, scale=scale, method=method) for method in ("sinc", "bicubic")}
    assert rows["sinc"].data_inconsistency < 0.015
    assert rows["bicubic"].data_inconsistency > 0.03
    assert rows["sinc"].energy_outside_band < 0.01 < rows["bicubic"].energy_outside_band < 0.1


def test_the_columns_of_a_volume_are_the_figures_by_name() -> None:
    truth, reference = made_patient(0)
    model = Pastes(2, -0.5)
    images = evaluate_volume(model, truth, reference, scale=2, keep_images=True).images
    assert images is not None
    swap = reference_swap(model, images, made_patient(1)[1], scale=2)
    columns = faithfulness_of(images, scale=2, swap=swap).columns()
    image, target = images["global"], images["target"]
    assert columns == {
        "data_inconsistency": data_inconsistency(image, images["low_res"], 2),
        "energy_outside_band": energy_outside_band(image, target, 2),
        "correlation_outside_band": correlation_outside_band(image, target, 2),
        "invented_share": invented_share(image, target, scale=2),
        "swap_psnr_drop_db": swap.psnr_drop_db,
        "swap_painted": swap.painted,
        "swap_painted_energy": swap.painted_energy,
        "swap_data_inconsistency": swap.data_inconsistency,
        "swap_invented_share": swap.invented_share,
    }
    without = faithfulness_of(images, scale=2, method="bicubic").columns()
    assert list(without) == list(columns)[:4]
