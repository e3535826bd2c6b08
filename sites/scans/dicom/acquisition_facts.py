"""How an image was acquired, as far as its header says: what rules choose by, and all that is kept of a header.

Times are in seconds. Codes are kept where they have the form of DICOM's code strings; texts that people type are
looked into and never shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Component = Literal["magnitude", "phase", "real", "imaginary", "map", "unknown"]
Vendor = Literal["Siemens", "GE", "Philips", "United Imaging", "Canon", "other"]

CODE = re.compile(r"[A-Z0-9_ ./*-]{1,24}")
VENDORS: dict[str, Vendor] = {
    "siemens": "Siemens",
    "ge": "GE",
    "general": "GE",
    "philips": "Philips",
    "uih": "United Imaging",
    "united": "United Imaging",
    "canon": "Canon",
    "toshiba": "Canon",
}
"""By the first word of Manufacturer, in small letters."""
COMPONENTS: dict[str, Component] = {
    "M": "magnitude",
    "MAGNITUDE": "magnitude",
    "P": "phase",
    "PHASE": "phase",
    "PHASE MAP": "phase",
    "R": "real",
    "REAL": "real",
    "I": "imaginary",
    "IMAGINARY": "imaginary",
}
MAPS = frozenset(
    {
        "ADC", "FA", "TRACEW", "TRACE", "TENSOR", "EXP", "COLFA", "FIELD_MAP", "B0 MAP", "B1 MAP", "T1 MAP", "T2 MAP",
        "T2_STAR MAP", "R2 MAP", "R2_STAR MAP", "FAT_FRACTION", "FF", "CBF", "CBV", "MTT", "TTP", "T-MAP", "SCREENSHOT",
        "MPR", "MIP", "PROJECTION IMAGE", "MIN IP", "SUBTRACT", "SUBTRACTION", "VRT", "CSA REPORT", "REPORT",
        "FIELDMAPHZ",
    }
)  # fmt: skip
"""Values of ImageType or FrameType from the third on that stand for no acquired contrast."""
DUMMIES = frozenset({"ANONYMIZED", "ANONYMISED", "ANONYMOUS", "UNKNOWN", "N/A"})
"""What de-identification writes in place of any text, also of none (dicom-anonymizer, pymedphys): it says nothing."""
GE_COMPONENTS: dict[int, Component] = {0: "magnitude", 1: "phase", 2: "real", 3: "imaginary"}
FAT_CODES = frozenset({"FS", "WE", "FATSAT", "FAT_SAT", "FSAT", "SPIR", "SPAIR"})
"""In ScanOptions: suppression or water excitation. SAT_GEMS and SAT1 are bands outside the field of view."""
FAT_EXCITATIONS = frozenset({"FAT", "FAT_AND_WATER"})


@dataclass(frozen=True)
class AcquisitionFacts:
    """The allow-list.

    field_strength_t, echo_time_s, repetition_time_s, inversion_time_s, flip_angle_deg, b_value_s_mm2: None where not
    said. sequence, variant, options, image_type: DICOM's codes. fat_suppressed, contrast_agent: None where not said.
    acquired_matrix: (rows, columns) of k-space. component: of the complex image. descriptions: typed by people; they
    are in no text of this object.
    """

    vendor: Vendor
    field_strength_t: float | None
    echo_time_s: float | None
    repetition_time_s: float | None
    inversion_time_s: float | None
    flip_angle_deg: float | None
    echo_train_length: int | None
    b_value_s_mm2: float | None
    is_3d: bool | None
    sequence: tuple[str, ...]
    variant: tuple[str, ...]
    options: tuple[str, ...]
    image_type: tuple[str, ...]
    component: Component
    fat_suppressed: bool | None
    contrast_agent: bool | None
    acquired_matrix: tuple[int, int] | None
    descriptions: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_derived(self) -> bool:
        """By the first two values of ImageType: made from other images."""
        return "DERIVED" in self.image_type[:1] or "SECONDARY" in self.image_type[1:2]


def facts_from(value: Callable[[str], Any], *, ge_component: object = None) -> AcquisitionFacts:
    """The facts of one frame.

    Parameters
    ----------
    value
        Gives an element's value by its keyword: of the frame, of what all frames share, or of the object; None where
        it is nowhere.
    ge_component
        GE's own element for the component.

    Returns
    -------
    AcquisitionFacts
        Times in seconds; DICOM has them in ms.

    Raises
    ------
    ValueError, TypeError
        A value is no number.
    """
    image_type = codes(value("FrameType")) or codes(value("ImageType"))
    options = codes(value("ScanOptions"))
    return AcquisitionFacts(
        vendor=vendor_of(value("Manufacturer")),
        field_strength_t=number(value("MagneticFieldStrength")),
        echo_time_s=_seconds(_first_of(value, "EffectiveEchoTime", "EchoTime")),
        repetition_time_s=_seconds(value("RepetitionTime")),
        # Philips writes 0 where nothing is inverted.
        inversion_time_s=_seconds(_first_of(value, "InversionTimes", "InversionTime")) or None,
        flip_angle_deg=number(value("FlipAngle")),
        echo_train_length=_whole(value("EchoTrainLength")),
        b_value_s_mm2=number(value("DiffusionBValue")),
        is_3d=_is_3d(value("MRAcquisitionType")),
        sequence=codes(value("ScanningSequence")) or codes(value("EchoPulseSequence")),
        variant=codes(value("SequenceVariant")),
        options=options,
        image_type=image_type,
        component=_component(image_type, value("ComplexImageComponent"), ge_component),
        fat_suppressed=_fat_suppressed(options, value),
        contrast_agent=_contrast_agent(value),
        acquired_matrix=_matrix(value("AcquisitionMatrix")),
        descriptions=tuple(
            str(text)
            for name in ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
            if (text := value(name))
        ),
    )


def codes(value: object) -> tuple[str, ...]:
    """The values of an element of code strings; what has another form is left out.

    Parameters
    ----------
    value
        None, one text or several.

    Returns
    -------
    tuple[str, ...]
        In the order of the element.
    """
    if value is None:
        return ()
    several = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
    texts = [str(one).strip().upper() for one in several]
    return tuple(text for text in texts if CODE.fullmatch(text))


def number(value: object) -> float | None:
    """A finite number, the first where there are several.

    Parameters
    ----------
    value
        As pydicom gives it.

    Returns
    -------
    float | None
        None for an empty element.

    Raises
    ------
    ValueError, TypeError
        It is no number, or not finite.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    found = float(value)  # type: ignore[arg-type]
    if not math.isfinite(found):
        raise ValueError("a number that is not finite")
    return found


def vendor_of(manufacturer: object) -> Vendor:
    """The vendor by the text of Manufacturer.

    Parameters
    ----------
    manufacturer
        None, or what the scanner wrote.

    Returns
    -------
    Vendor
        "other" for one that is not known here.
    """
    words = re.findall(r"[a-z]+", str(manufacturer or "").lower())
    return VENDORS.get(words[0], "other") if words else "other"


def _first_of(value: Callable[[str], Any], *names: str) -> Any:
    return next((found for name in names if (found := value(name)) is not None), None)


def _seconds(value: object) -> float | None:
    found = number(value)
    return None if found is None else found / 1000


def _whole(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _is_3d(value: object) -> bool | None:
    return {"3D": True, "2D": False}.get(str(value))


def _matrix(value: object) -> tuple[int, int] | None:
    """(rows, columns): AcquisitionMatrix has frequency rows, frequency columns, phase rows, phase columns."""
    if not isinstance(value, Sequence) or len(value) != 4:
        return None
    rows, columns = max(int(value[0]), int(value[2])), max(int(value[1]), int(value[3]))
    return (rows, columns) if rows > 0 and columns > 0 else None


def _component(image_type: tuple[str, ...], stated: object, ge_component: object) -> Component:
    kinds = image_type[2:]
    if any(kind in MAPS for kind in kinds):
        return "map"
    of_ge = number(ge_component)
    if of_ge is not None and int(of_ge) in GE_COMPONENTS:
        return GE_COMPONENTS[int(of_ge)]
    named = [str(stated or "").strip().upper(), *kinds]
    return next((COMPONENTS[kind] for kind in named if kind in COMPONENTS), "unknown")


def _fat_suppressed(options: tuple[str, ...], value: Callable[[str], Any]) -> bool | None:
    selective = str(value("SpectrallySelectedSuppression") or "").strip().upper()
    excited = str(value("SpectrallySelectedExcitation") or "").strip().upper()
    if FAT_CODES & set(options) or selective in FAT_EXCITATIONS or excited == "WATER":
        return True
    return False if options or selective or excited else None


def _contrast_agent(value: Callable[[str], Any]) -> bool | None:
    """Whether an agent is named, None where nothing is said. Its name is a text, and is not kept."""
    sequence, text = value("ContrastBolusAgentSequence"), value("ContrastBolusAgent")
    if sequence is not None:
        return len(sequence) > 0
    if text is None or not str(text).strip():
        return None
    said = str(text).strip().upper()
    return None if said in DUMMIES else said not in {"NO", "NONE", "N", "OFF"}
