"""What `fedminet infer` makes of each reference: files in, registration, gate, stand-in, file out.

The whole stack goes in, since registration looks at volumes. Where the pair is refused there is no picture, and the row
says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from fedminet.experiment.gate.troubled_inputs import INPUT_WAYS, Complex
from fedminet.experiment.gate.wrong_references import Volume, Way
from minet_core.checkpoint import load_model
from minet_core.errors import RegistrationRefused, ScanInvalid
from minet_core.evaluation.inference import super_resolve
from minet_core.evaluation.metrics import psnr
from minet_core.imaging import volume
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.mirrored_sinc import mirrored_sinc
from minet_core.phantom.patient import PhantomScan
from sites.phantom_files import write_nifti
from sites.super_resolution.super_resolve import super_resolve_file

Row = dict[str, Any]


def pictures_by_infer(
    models: dict[str, Path],
    scan: PhantomScan,
    target: Complex,
    ways: Iterable[tuple[Way, Volume]],
    *,
    scale: int,
) -> list[Row]:
    """PSNR of every model's picture of one patient, by way.

    Parameters
    ----------
    models
        Their files by name.
    scan
        The patient, for the geometry.
    target : complex64 (S, H, W)
        Cropped to multiples of twice the scale.
    ways
        With the reference of each, float32 (S, H, W) magnitude.
    scale
        2 or 4.

    Returns
    -------
    list[dict]
        Of each model and way: `psnr_db`, None where the pair was refused; `alone_db` of the same model given zeros;
        `sinc_db`; and what the sidecar says of the gate and of registration.
    """
    truth = np.abs(target)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = _Files(Path(folder), scan, scale)
        low_res = low_resolution(torch.from_numpy(target), scale).abs()
        files.write("T2", low_res.numpy(), fine=False)
        sinc_db = psnr(truth, np.stack([_interpolated(one, scale) for one in low_res]))
        alone_db = {
            name: _alone_db(model, low_res.numpy(), truth, scale=scale) for name, model in models.items()
        }
        for way, reference in ways:
            files.write("T1", reference)
            for name, model in models.items():
                beside = {"sinc_db": sinc_db, "alone_db": alone_db[name]}
                rows.append({"way": way.name, "model": name, **beside, **files.tried(model, truth)})
    return rows


def inputs_by_infer(
    models: dict[str, Path], scan: PhantomScan, pair: tuple[Complex, Volume], *, scale: int
) -> list[Row]:
    """PSNR of every model's picture of one patient, by the input's trouble, with the right reference.

    Parameters
    ----------
    models
        Their files by name.
    scan
        The patient, for the geometry.
    pair
        Target and reference, (S, H, W), cropped to multiples of twice the scale.
    scale
        2 or 4.

    Returns
    -------
    list[dict]
        As `pictures_by_infer`, but `sinc_db` is of the same input and there is no `alone_db`.
    """
    target, reference = pair
    truth = np.abs(target)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = _Files(Path(folder), scan, scale)
        files.write("T1", reference)
        for way in INPUT_WAYS:
            low_res = way.make(target, scale)
            files.write("T2", low_res, fine=False)
            sinc_db = psnr(truth, np.stack([_interpolated(torch.from_numpy(one), scale) for one in low_res]))
            for name, model in models.items():
                rows.append({"way": way.name, "model": name, "sinc_db": sinc_db, **files.tried(model, truth)})
    return rows


class _Files:
    """The files of one patient, in a folder of their own."""

    def __init__(self, folder: Path, scan: PhantomScan, scale: int) -> None:
        self._folder, self._scan, self._scale = folder, scan, scale

    def write(self, name: str, array: Volume, *, fine: bool = True) -> None:
        """One volume; not fine: on the low resolution's grid, whose first sample is that of the fine one."""
        through, down, across = self._scan.target.spacing_mm
        affine, step = self._scan.target.affine.copy(), 1 if fine else self._scale
        affine[:3, 1:3] *= step
        spacing = (through, down * step, across * step)
        write_nifti(self._folder / f"{name}.nii.gz", volume.Volume(array, spacing, affine, name))

    def tried(self, model: Path, truth: Volume) -> Row:
        """The picture as the command makes it by default, and what it says."""
        try:
            picture, said = self._made(model)
        except (RegistrationRefused, ScanInvalid) as refusal:
            return {"psnr_db": None, "said": refusal.code}
        gate = said["gate"]
        return {
            "psnr_db": psnr(truth, picture),
            "said": sorted(caution["code"] for caution in said["cautions"]),
            "moved_mm": said["moved_mm"],
            **{key: gate[key] for key in ("wrong", "trusted", "without_reference", "stand_in")},
        }

    def _made(self, model: Path) -> tuple[Volume, Row]:
        made = super_resolve_file(
            model,
            self._folder / "T2.nii.gz",
            self._folder / "T1.nii.gz",
            self._folder / "out.nii",
        )
        picture = nibabel.Nifti1Image.from_filename(made.path).get_fdata(dtype=np.float32)
        return picture.transpose(2, 1, 0), made.as_json()


def _alone_db(model: Path, low_res: Volume, truth: Volume, *, scale: int) -> float:
    """Of the model given zeros for a reference, which no file may hold."""
    network, _ = load_model(model)
    return psnr(truth, super_resolve(network, low_res, np.zeros_like(truth), scale=scale))


def _interpolated(low_res: torch.Tensor, scale: int) -> Volume:
    """Zero-filled sinc of one slice, from its first sample on, as the command lays a picture."""
    return np.asarray(mirrored_sinc(low_res, scale)[scale - 1 :, scale - 1 :])
