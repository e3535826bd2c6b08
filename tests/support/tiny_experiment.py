"""Two sites of three small patients each, and an experiment of one step on them."""

from __future__ import annotations

from pathlib import Path

from fedminet.experiment.study import Study, StudyRequest, study_of
from tests.faults.tiny_sites import make_volume, write_nifti

SHAPE, SPACING_MM = (6, 64, 60), (4.0, 1.9, 1.9)
"""Large enough for the quick preset's patches."""


def write_tiny_scans(folder: Path) -> dict[str, Path]:
    """By site, the folder below `folder` where its patients are."""
    for index, site in enumerate(("sms", "umr")):
        for patient in range(3):
            for contrast in ("T1", "T2"):
                volume = make_volume(100 * index + patient, contrast, shape=SHAPE, spacing_mm=SPACING_MM)
                write_nifti(folder / site / f"patient{patient}" / f"{contrast}.nii.gz", volume)
    return {site: folder / site for site in ("sms", "umr")}


def tiny_study(out: Path, scans: dict[str, Path], **changes: object) -> Study:
    """sinc and MINet in every mode at 2x, one step; `changes` of it."""
    options: dict[str, object] = {
        "preset": "quick",
        "modes": ["federated", "pooled", "local", "without"],
        "methods": ["sinc", "minet"],
        "seeds": 1,
        "scales": [2],
        "named": scans,
        "ingested": {},
        "n_patients": 3,
        "rounds": 1,
        "local_steps": 1,
    }
    return study_of(StudyRequest(out=out, **{**options, **changes}))  # type: ignore[arg-type]
