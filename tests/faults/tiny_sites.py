"""Sites of tiny made-up scans, ingested by the real road: for trials that train for real and need no image quality."""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy import ndimage

from client.site_home import SiteHome
from minet_core.imaging.volume import Volume
from minet_core.runtime.files.atomic_write import write_text
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import parse_settings, parse_yaml, read_settings, settings_text
from sites.ingest import ingest
from sites.settings.definitions import definition_text
from sites.settings.site_policy import open_policy
from sites.settings.site_settings import SiteSettings
from sites.store.pseudonym import keep_key
from tests.support.made_once import made_once

SHAPE = (8, 40, 36)
SPACING_MM = (4.0, 3.0, 3.0)
TISSUES = {"T1": (0.0, 0.3, 1.0, 0.7, 0.5), "T2": (0.0, 1.0, 0.35, 0.55, 0.8)}


def affine_of(spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Axial slices upwards, rows to the back, columns to the left; the origin off the axes."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm[0], -spacing_mm[1], -spacing_mm[2]
    affine[:, 3] = (61.0, 55.0, -20.0, 1.0)
    return affine


def tissue_map(
    seed: int, *, shape: tuple[int, int, int] = SHAPE, spacing_mm: tuple[float, float, float] = SPACING_MM
) -> NDArray[np.int64]:
    """A head of four tissues that another seed lays out differently: (slice, row, column), 0 is air."""
    generator = np.random.default_rng(seed)
    sigma = [7.0 / step for step in spacing_mm]
    field = ndimage.gaussian_filter(generator.standard_normal(shape), sigma)
    tissue = 1 + np.digitize(field, np.quantile(field, [0.25, 0.5, 0.75]))
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    head = (grid[0] / 1.3) ** 2 + (grid[1] / 0.85) ** 2 + (grid[2] / 0.8) ** 2 < 1
    return np.where(head, tissue, 0)


def make_volume(
    seed: int,
    contrast: str,
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> Volume:
    """A patient's scan of one contrast: the tissues, slightly blurred, with 2% noise; units of 1000."""
    clean = np.array(TISSUES[contrast])[tissue_map(seed, shape=shape, spacing_mm=spacing_mm)]
    noise = np.random.default_rng([seed, len(contrast), ord(contrast[1])]).normal(0, 0.02, shape)
    array = np.abs(ndimage.gaussian_filter(clean, (0, 0.5, 0.5)) + noise) * 1000
    return Volume(array.astype(np.float32), spacing_mm, affine_of(spacing_mm), contrast)


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume as a scanner does: axes (column, row, slice)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = volume.affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
    nibabel.save(image, path)


def write_nifti_patient(
    folder: Path,
    seed: int,
    *,
    names: tuple[str, str] = ("T1.nii.gz", "T2.nii.gz"),
    shape: tuple[int, int, int] = SHAPE,
) -> None:
    """T1 and T2 of one patient in one folder."""
    write_nifti(folder / names[0], make_volume(seed, "T1", shape=shape))
    write_nifti(folder / names[1], make_volume(seed, "T2", shape=shape))


def open_the_policy(site_yaml: Path) -> None:
    """Let a site take part in what no hospital's policy allows: three patients, patches of 16 px, a step or two."""
    content = yaml.safe_load(site_yaml.read_text(encoding="utf-8"))
    content["policy"] = open_policy().model_dump(mode="json")
    site_yaml.write_text(yaml.safe_dump(content), encoding="utf-8")


TINY_SITES = ("fastmri", "sms", "umr")
N_PATIENTS = 3


def make_tiny_sites(
    folder: Path, *, names: Sequence[str] = TINY_SITES, shape: tuple[int, int, int] = SHAPE
) -> dict[str, SiteHome]:
    """By name, NIfTI sites of three patients each; shape: (slice, row, column) of every scan.

    Each is ingested once a run of tests, and copied. A site's key of pseudonyms follows from its name, so that a run
    over them gives the same figures each time.
    """
    for place, name in enumerate(names):
        shutil.copytree(_ingested(name, place, shape), folder, dirs_exist_ok=True)
    return {name: SiteHome(folder / "sites" / name) for name in names}


@functools.cache
def _ingested(name: str, place: int, shape: tuple[int, int, int]) -> Path:
    """A folder with the scans and the site of this name. place: whose patients it has."""

    def make(folder: Path) -> None:
        scans, home = folder / "scans" / name, SiteHome(folder / "sites" / name)
        for patient in range(N_PATIENTS):
            write_nifti_patient(scans / f"patient{patient}", 100 * place + patient, shape=shape)
        content = {
            **parse_yaml(definition_text("sms")),
            "name": name,
            "allow_few_patients": True,
            "policy": open_policy().model_dump(mode="json"),  # three patients, and patches of 16 px
        }
        settings = parse_settings(content, SiteSettings, source="the trial")
        write_text(home.path / "site.yaml", settings_text(settings))
        # One order of patients, one draw of patches.
        keep_key(home.store, hashlib.sha256(name.encode()).digest())
        ingest(scans, home.store, read_settings(home.path / "site.yaml", SiteSettings))

    return made_once("-".join(map(str, ("tiny", name, place, *shape))), make)


def tiny_federation(**changes: object) -> FederationSettings:
    """Three rounds of two steps on 16 px patches, a model of a few thousand weights."""
    content: dict[str, object] = {
        "name": "tiny",
        "sites": TINY_SITES,
        "rounds": 3,
        "participation": {"quorum": 3, "deadline_s": 300.0, "retries": 0},
        "model": {"n_groups": 1, "n_blocks": 1, "n_features": 8, "reduction": 2},
        "training": {"local_steps": 2, "patch_px": 16, "batch_size": 2, "validation_slices": 1},
    }
    return parse_settings({**content, **changes}, FederationSettings, source="the trial")
