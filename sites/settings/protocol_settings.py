"""What the site's series are acquired with, and from where on another figure is said: `protocol` of site.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from minet_core.settings.yaml_file import Settings


class SeriesProtocol(Settings):
    """One contrast's figures. What is not given is the median of the store and the ingest."""

    echo_time_s: NonNegativeFloat | None = Field(None, description="TE [s]; null: the median")
    repetition_time_s: NonNegativeFloat | None = Field(None, description="TR [s]; null: the median")
    inversion_time_s: NonNegativeFloat | None = Field(None, description="TI [s]; null: the median")
    flip_angle_deg: NonNegativeFloat | None = Field(
        None, description="flip angle [degrees]; null: the median"
    )
    field_strength_t: PositiveFloat | None = Field(None, description="magnetic field [T]; null: the median")
    slice_spacing_mm: PositiveFloat | None = Field(
        None, description="from slice to slice [mm]; null: the median"
    )
    matrix: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="pixels of the image, the longer edge and the shorter; null: the median"
    )


class ProtocolSettings(Settings):
    """When a series departs from the site's protocol (FM-D222). By DICOM headers and BIDS side-cars alone."""

    target: SeriesProtocol = Field(default_factory=SeriesProtocol)
    reference: SeriesProtocol = Field(default_factory=SeriesProtocol)
    tolerance: PositiveFloat | None = Field(
        0.1, description="largest relative difference that is not said; null: nothing is compared"
    )
    on_drift: Literal["remark", "refuse"] = Field(
        "remark", description="remark: say it, and take the pair; refuse: leave the study out"
    )
    min_series: PositiveInt = Field(
        5,
        description="series of a contrast, in store and ingest, from which on their median is compared with",
    )
