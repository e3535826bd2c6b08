"""A reference that registration cannot place: taken as it lies where the gate finds it right, and refused else."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minet_core.checkpoint import save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.volume import Volume
from minet_core.models.registry import build_model
from minet_core.settings.federation import ModelSettings
from minet_core.weights.manifest import learnable
from sites.phantom_files import write_nifti
from sites.registration.checks import MotionNotFound
from sites.settings.site_settings import RegistrationSettings
from sites.super_resolution.believed_reference import PictureOptions
from sites.super_resolution.super_resolve import super_resolve_file
from tests.support.small_scans import make_volume

SMALL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)
SHAPE, SPACING = (12, 96, 96), (5.0, 1.5, 1.5)
HARDLY_EVER = PictureOptions(registration=RegistrationSettings(min_agreement=0.999))
"""No pair has so many blocks in their place: registration finds no motion."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("believed")
    torch.manual_seed(0)
    weights = learnable(build_model(SMALL.model_dump(), scale=2))
    save_checkpoint(
        folder / "model.safetensors",
        weights,
        describe(weights, model=SMALL, scale=2, round_number=1, provenance={}),
    )
    high = make_volume(1, "T2", shape=SHAPE, spacing_mm=SPACING)
    affine = high.affine.copy()
    affine[:3, 1:3] *= 2
    low = low_resolution(torch.from_numpy(np.asarray(high.array)), 2).numpy()
    write_nifti(folder / "T2.nii.gz", Volume(low, (5.0, 3.0, 3.0), affine, "T2"))
    write_nifti(folder / "own.nii.gz", make_volume(1, "T1", shape=SHAPE, spacing_mm=SPACING))
    write_nifti(folder / "other.nii.gz", make_volume(2, "T1", shape=SHAPE, spacing_mm=SPACING))
    return folder


def test_a_right_reference_without_a_motion_is_taken_as_it_lies_and_that_is_said(folder: Path) -> None:
    as_it_lies = _made(folder, "own", PictureOptions(register=False))
    found = _made(folder, "own", HARDLY_EVER)
    np.testing.assert_array_equal(found[0], as_it_lies[0])
    assert "reference-not-registered" in found[1]
    assert "reference-not-registered" not in as_it_lies[1]


def test_another_patients_reference_without_a_motion_is_refused(folder: Path) -> None:
    with pytest.raises(MotionNotFound) as caught:
        _made(folder, "other", HARDLY_EVER)
    assert caught.value.code == "FM-D204"


def _made(folder: Path, reference: str, options: PictureOptions) -> tuple[NDArray[np.float32], set[str]]:
    made = super_resolve_file(
        folder / "model.safetensors",
        folder / "T2.nii.gz",
        folder / f"{reference}.nii.gz",
        folder / "out.nii",
        options=options,
    )
    picture = nibabel.Nifti1Image.from_filename(made.path).get_fdata(dtype=np.float32)
    return picture, {caution.code for caution in made.cautions}
