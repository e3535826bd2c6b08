"""Whether the detail of a super-resolved image is the patient's: every check for invented anatomy, in a row.

See `minet_core.imaging.kspace_band` for what was measured and what was not, `minet_core.imaging.fourier_rings` for
where detail is shown that the truth has not, and
`fedminet.experiment.analysis.reference_swap` for whose anatomy the reference brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from fedminet.experiment.analysis.reference_swap import ReferenceSwap
from minet_core.evaluation.volume_scores import MODEL
from minet_core.imaging.fourier_rings import invented_share
from minet_core.imaging.kspace_band import correlation_outside_band, data_inconsistency, energy_outside_band


@dataclass(frozen=True)
class Faithfulness:
    """The checks of one image of one volume.

    data_inconsistency: relative error of the image degraded again; 0 agrees with what was measured.
    energy_outside_band: detail beyond what was measured, as a fraction of the truth's; 0 is zero-filled sinc,
        1 as much as there really is, above 1 more than there is.
    correlation_outside_band: of that detail with the truth's; 1 all of it is true, 0 invented; None where
        the image has none.
    invented_share: of that detail, by energy, what is not the truth's at its place: window by window
        (`minet_core.imaging.fourier_rings`); None where the image has none, or is smaller than a window.
    swap: what another patient's reference does; None where no reference was exchanged.
    """

    data_inconsistency: float
    energy_outside_band: float
    correlation_outside_band: float | None
    invented_share: float | None = None
    swap: ReferenceSwap | None = None

    def columns(self) -> dict[str, float | None]:
        """One row of a table: the fields by name, those of the swap as "swap_...", absent without one."""
        of_image: dict[str, float | None] = {
            "data_inconsistency": self.data_inconsistency,
            "energy_outside_band": self.energy_outside_band,
            "correlation_outside_band": self.correlation_outside_band,
            "invented_share": self.invented_share,
        }
        if self.swap is None:
            return of_image
        return of_image | {f"swap_{name}": value for name, value in asdict(self.swap).items()}


def faithfulness_of(
    images: Mapping[str, NDArray[np.float32]],
    *,
    scale: int,
    method: str = MODEL,
    swap: ReferenceSwap | None = None,
) -> Faithfulness:
    """The checks of one method's image of a volume.

    images: what `evaluate_volume(..., keep_images=True)` kept. method: "global", "sinc" or "bicubic".
    swap: from `reference_swap`, for the model. Raises MetricInvalid where a figure would mean nothing.
    """
    image, truth = images[method], images["target"]
    return Faithfulness(
        data_inconsistency=data_inconsistency(image, images["low_res"], scale),
        energy_outside_band=energy_outside_band(image, truth, scale),
        correlation_outside_band=correlation_outside_band(image, truth, scale),
        invented_share=invented_share(image, truth, scale=scale),
        swap=swap,
    )
