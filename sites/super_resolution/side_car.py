"""What is said of a picture that was made: on the screen, and in the JSON file beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minet_core.errors import InvalidSetting
from minet_core.runtime.json_text import parse_json
from sites.scans.dicom.write_series import WrittenSeries
from sites.super_resolution.believed_reference import GateFigures
from sites.super_resolution.cautions import Caution
from sites.super_resolution.error_map import MapFigures
from sites.super_resolution.refinement_plane import Plane

MADE_BY = "fedminet infer"
PLANE_SOURCES = {
    "given": "as given",
    "frames": "the scanner's own slices",
    "dim_info": "the header says so",
    "reference": "where the reference is finer",
    "spacing": "the coarser or finer spacing of the slices",
}


@dataclass(frozen=True)
class SuperResolved:
    """What was written, how the reference was brought to it, and what must be said beside it.

    shape: voxels along the file's axes. spacing_mm: between them. plane: which one was refined, and who says so.
    extrapolated: rows and columns at the far edges that lie behind the input's outermost samples. covered: share of
    the target's foreground in the reference's field of view. agreement: of the contours of both scans
    (`sites.registration.contour_agreement`); None where too little is shared. data_inconsistency:
    `minet_core.imaging.kspace_band`. data_consistent: whether what was measured was put back. self_ensemble: poses over
    which the picture was averaged. detail: energy outside
    the measured band, over the picture's. gate: None for slices too small to be judged. moved_mm, residual_mm,
    block_agreement: as `sites.registration.register` defines them; None where the reference was taken at its scanner
    position. sidecar: the JSON file that says the same. series:
    None where a NIfTI file was written. uncertainty: of the map beside it, None without one.
    """

    path: Path
    sidecar: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    plane: Plane
    extrapolated: int
    model_sha256: str
    covered: float
    agreement: float | None
    data_inconsistency: float
    data_consistent: bool
    self_ensemble: int
    detail: float
    gate: GateFigures | None
    moved_mm: float | None
    residual_mm: float | None
    block_agreement: float | None
    cautions: tuple[Caution, ...]
    series: WrittenSeries | None = None
    uncertainty: MapFigures | None = None

    def as_json(self) -> dict[str, Any]:
        """What was made, as plain values: no path, and nothing of the patient.

        Returns
        -------
        dict[str, Any]
            What the sidecar holds.
        """
        content = asdict(self)
        del content["path"], content["sidecar"]
        return {"made_by": MADE_BY, "use": "research output, not for diagnosis", **content}

    def as_text(self) -> str:
        """For a person."""
        lines = [f"Refined: the {self.plane.name} plane ({PLANE_SOURCES[self.plane.source]})"]
        if self.moved_mm is not None:
            lines.append(f"Reference moved by {self.moved_mm:.2f} mm, residual {self.residual_mm:.2f} mm")
        lines.append(
            f"Reference covers {self.covered:.0%} of the anatomy"
            + ("" if self.agreement is None else f"; its contours agree by {self.agreement:.2f}")
        )
        if self.gate is not None:
            lines.append(
                f"Reference believed for {self.gate.trusted:.0%} of the structure; "
                f"{self.gate.without_reference:.0%} made without it"
            )
        if self.self_ensemble > 1:
            lines.append(f"Averaged over {self.self_ensemble} flips and transpositions of the scans")
        lines.append(
            f"Extrapolated: the last {self.extrapolated} rows and columns, behind the outermost samples"
        )
        lines += [f"CAUTION {caution.code}: {caution.sentence}" for caution in self.cautions]
        voxels = f"{self.shape} voxels of {tuple(round(mm, 4) for mm in self.spacing_mm)} mm"
        if self.series is not None:
            kind = "enhanced" if self.series.enhanced else "classic"
            voxels += (
                f", {kind} DICOM ({self.series.n_files} files), values in steps of {self.series.step:.3g}"
            )
        lines.append(f"Written: {self.path}, {voxels}, and {self.sidecar.name}")
        if self.uncertainty is not None:
            lines.append(self.uncertainty.as_text())
        return "\n".join(lines)


def sidecar_of(out: Path) -> Path:
    """The JSON file that says what was made: beside the output, with its name in .json.

    Parameters
    ----------
    out
        A NIfTI file or a folder.

    Returns
    -------
    Path
        In the same folder as `out`.
    """
    return out.with_name(out.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def require_sidecar(out: Path) -> None:
    """Refuse an output whose sidecar would replace a file that is none.

    Parameters
    ----------
    out
        As `sidecar_of` takes it.

    Raises
    ------
    InvalidSetting
        FM-C102: another JSON file is there.
    """
    sidecar = sidecar_of(out)
    if sidecar.exists() and not _is_ours(sidecar):
        raise InvalidSetting(
            "the output's JSON file would replace another one", got=sidecar, action="Give another output path"
        )


def _is_ours(sidecar: Path) -> bool:
    try:
        content = parse_json(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == MADE_BY
