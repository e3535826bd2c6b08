"""How wide a model's error bars are, as its file carries them: measured on patients that it was not trained on.

The spread of the pictures over mirrored scans is no error bar. On a site's validation patients the error is known, and
says by what to multiply it (`minet_core.evaluation.error_bars`). What so few patients can promise of the next one is
said beside it.

References
----------
Dunn, Wasserman, Ramdas: "Distribution-free prediction sets for two-layer hierarchical models", Journal of the American
Statistical Association 118 (2023): pooled quantiles of groups, section 3.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt

from minet_core.settings.yaml_file import Settings

LEVELS = (0.68, 0.95)


class ErrorBars(Settings):
    """Of one kind of picture: by what its unit is multiplied so that this share of the errors lies within."""

    factor_68: float = Field(gt=0, lt=1e6)
    factor_95: float = Field(gt=0, lt=1e6)


class Calibration(Settings):
    """Of a model, on the validation patients of the sites that trained it."""

    patients: PositiveInt = Field(description="validation patients behind the figures")
    slices: PositiveInt = Field(description="their slices that were looked at")
    poses: PositiveInt = Field(description="flips and transpositions over which the pictures were averaged")
    guided: ErrorBars = Field(description="of the picture with its reference")
    alone: ErrorBars = Field(description="of what stands in where there is no reference")
    stand_in: Literal["model", "sinc"] = Field(description="which that is")

    def as_card(self) -> dict[str, Any]:
        """For a person and for a model's card.

        Returns
        -------
        dict[str, Any]
            The figures, and under `promised` what they hold of a new patient at each level.
        """
        return {
            **self.model_dump(mode="json"),
            "promised": {f"{level:g}": round(self.promised(level), 4) for level in LEVELS},
        }

    def promised(self, level: float) -> float:
        """The share of a new patient's voxels, on average over patients, that bars of a level hold whatever the errors.

        The n patients and the next one are exchangeable: patients of the same site, protocol and kind. Then the pooled
        quantile of n patients covers at least n / (n + 1) of its level, and no method promises more than n / (n + 1)
        of it all by n patients.

        Parameters
        ----------
        level
            That the bars are of, as 0.95.

        Returns
        -------
        float
            level * n / (n + 1).
        """
        return level * self.patients / (self.patients + 1)
