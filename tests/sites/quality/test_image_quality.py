"""What is no scan is refused by its name, and what is one passes: phantoms of two contrasts, and real scans."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft, ndimage

from minet_core.errors import ScanInvalid
from minet_core.imaging.volume import Volume
from minet_core.phantom.acquisition import SITES
from minet_core.phantom.patient import make_patient, with_slices
from minet_core.phantom.variety import draw_variety
from minet_core.seeds import derived_seed
from sites.making.make_pair import UNSURE, make_pair
from sites.pairing.candidates import Candidate
from sites.phantom_files import write_fastmri
from sites.quality.image_quality import examine, examine_scan
from sites.scans.nifti import read_nifti
from sites.settings.definitions import definition
from sites.settings.site_settings import QualitySettings
from tests.support.small_scans import make_volume, write_nifti
from tests.support.surrogates import surrogate_folder

Array = NDArray[np.float32]
LIMITS = QualitySettings()
MIDDLE = 4


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    """Target and reference of a phantom, nine slices, whole numbers as scanners store them."""
    scan = make_patient(with_slices(SITES["sms"], 9), seed=5)
    target, reference = (
        dataclasses.replace(one, array=np.rint(one.magnitude())) for one in (scan.target, scan.reference)
    )
    return target, reference


def with_array(volume: Volume, array: NDArray[np.generic]) -> Volume:
    return dataclasses.replace(volume, array=np.ascontiguousarray(array, dtype=np.float32))


def anatomy_of(a: Array) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_opening(a > 0.15 * np.percentile(a, 99)))


def labels_of(a: Array, n: int) -> Array:
    levels = np.quantile(a[anatomy_of(a)], np.linspace(0, 1, n + 1)[:-1])
    return np.digitize(a, levels).astype(np.float32)


def phase_of(a: Array) -> Array:
    noise = np.random.default_rng(0).normal(0, 20, (2, *a.shape))
    rows, columns = np.linspace(-9, 9, a.shape[1])[:, None], np.linspace(-3, 6, a.shape[2])[None]
    angle = np.angle(a * np.exp(1j * (rows + columns)) + noise[0] + 1j * noise[1])
    return np.rint((angle + np.pi) * 4095 / (2 * np.pi)).astype(np.float32)


def ratio_of(a: Array) -> Array:
    noise = np.abs(np.random.default_rng(0).normal(0, 20, a.shape))
    return (a / (np.roll(a, 3, axis=1) + noise + 1)).astype(np.float32)


def probability_of(a: Array) -> Array:
    smooth, half = ndimage.gaussian_filter(a, (0, 1, 1)), 0.5 * np.percentile(a, 99)
    return (anatomy_of(a) / (1 + np.exp(-(smooth - half) / (0.1 * half)))).astype(np.float32)


def many_labels_of(a: Array) -> Array:
    """A hundred labels, one a block of an atlas, in no order of brightness."""
    z, y, x = np.indices(a.shape) // np.array([3, 20, 20]).reshape(3, 1, 1, 1)
    return (1 + (z * 7919 + y * 104729 + x * 1299709) % 113 * anatomy_of(a)).astype(np.float32)


DERIVED: dict[str, tuple[Callable[[Array], NDArray[np.generic]], str]] = {
    "mask": (anatomy_of, "2 distinct values"),
    "labels": (lambda a: labels_of(a, 4), "distinct values"),
    "forty labels": (lambda a: labels_of(a, 40), "distinct values"),
    "atlas": (many_labels_of, "neighbouring voxels equal"),
    "phase": (phase_of, "spread evenly"),
    "masked phase": (lambda a: phase_of(a) * anatomy_of(a), "spread evenly"),
    "probability": (probability_of, "at the maximum"),
    "saturated": (lambda a: np.minimum(a, np.percentile(a[anatomy_of(a)], 88)), "at the maximum"),
    "ratio": (ratio_of, "beside dark ones"),
    "masked ratio": (lambda a: ratio_of(a) * anatomy_of(a), "beside dark ones"),
    "difference": (lambda a: np.abs(a - ndimage.gaussian_filter(a, 1)), "beside dark ones"),
}


@pytest.mark.parametrize("kind", DERIVED)
def test_what_is_computed_of_a_scan_is_no_scan(pair: tuple[Volume, Volume], kind: str) -> None:
    make, message = DERIVED[kind]
    for volume, role in zip(pair, ("target", "reference"), strict=True):
        with pytest.raises(ScanInvalid, match=f"the {role} is no magnitude image.*{message}"):
            examine_scan(with_array(volume, make(volume.magnitude())), role=role, limits=LIMITS)


def put(place: tuple[int | slice, ...], times: float) -> Callable[[Array], Array]:
    def changed(a: Array) -> Array:
        out = a.copy()
        out[place] = times * a.max()
        return out

    return changed


def with_text(a: Array) -> Array:
    strokes = np.random.default_rng(0).random((20, 40)) < 0.4
    out = a.copy()
    out[:, 5:25, 5:45] = np.where(strokes, a.max(), 0)
    return out


def with_spike(a: Array) -> Array:
    out = a.copy()
    kspace = fft.fft2(a[MIDDLE])
    kspace[60, 70] += 0.1 * np.abs(kspace).max()
    out[MIDDLE] = np.abs(fft.ifft2(kspace))
    return out


BRIGHT: dict[str, tuple[Callable[[Array], Array], str]] = {
    "one voxel": (put((MIDDLE, 50, 60), 30), r"1 hot voxels.*\(4, 50, 60\)"),
    "in the tissue": (put((MIDDLE, 160, 160), 30), r"1 hot voxels.*\(4, 160, 160\)"),
    "at the corner": (put((0, 0, 0), 30), r"1 hot voxels.*\(0, 0, 0\)"),
    "four voxels": (put((MIDDLE, slice(90, 92), slice(90, 92)), 5), "4 hot voxels"),
    "twenty voxels": (put((slice(None), slice(40, 280, 120), 160), 5), "18 hot voxels"),
    "a line": (put((MIDDLE, slice(None), 100), 3), "text or marks"),
    "edge row": (put((slice(None), -1), 1), "."),
    "faint edge column": (put((slice(None), slice(None), 0), 0.7), "first column"),
    "text": (with_text, "text or marks"),
    "box": (put((slice(None), slice(10, 30), slice(10, 60)), 1), "text or marks"),
    "spike": (with_spike, "spike in the k-space of slice 4"),
}


@pytest.mark.parametrize("kind", BRIGHT)
def test_what_is_brighter_than_anatomy_is_refused_with_its_place(
    pair: tuple[Volume, Volume], kind: str
) -> None:
    make, message = BRIGHT[kind]
    for volume in pair:
        with pytest.raises(ScanInvalid, match=message):
            examine_scan(with_array(volume, make(volume.magnitude())), role="target", limits=LIMITS)


def test_a_patient_with_fine_marrow_is_taken() -> None:
    """Its k-space has a point of 15 times its surroundings, 0.0003 of the centre: no spike, and no stripes."""
    acquisition = SITES["sms"]
    scan = make_patient(acquisition, seed=derived_seed(81, "phantom", "sms", 2), varied=True)
    for volume in (scan.target, scan.reference):
        rounded = with_array(volume, np.rint(volume.magnitude()))
        examine_scan(rounded, role="reference", limits=LIMITS)


def test_a_knee_that_is_taken_as_it_lies_says_so(tmp_path: Path) -> None:
    """Its blocks scatter by nearly a pixel about their place, and the gate finds that the reference lies right."""
    own = derived_seed(81, "phantom", "fastmri", 9)
    scan, measured = (
        make_patient(SITES["fastmri"], seed=own, varied=True),
        draw_variety(SITES["fastmri"], seed=own),
    )
    files = tmp_path / "target.h5", tmp_path / "reference.h5"
    for path, volume in zip(files, (scan.target, scan.reference), strict=True):
        write_fastmri(path, volume, acquisition=measured.acquisition, patient_id="knee")
    candidate = Candidate(label="knee", patient_id="knee", target=files[0], reference=files[1])
    knees = definition("fastmri")
    strict = knees.registration.model_copy(update={"max_error_px": 0.5})
    _, content = make_pair(candidate, knees.model_copy(update={"registration": strict}), patient="knee")
    assert content["quality"]["remarks"] == [UNSURE]
    assert not content["resampled"]
    assert content["residual_px"] > 0.5


def test_the_site_may_take_them_with_a_remark(pair: tuple[Volume, Volume]) -> None:
    limits = QualitySettings(bright_artefacts="remark", derived_images="remark")
    hot = with_array(pair[0], put((MIDDLE, 50, 60), 30)(pair[0].magnitude()))
    assert "hot voxels" in " ".join(examine_scan(hot, role="target", limits=limits).remarks)
    mask = with_array(pair[0], anatomy_of(pair[0].magnitude()))
    assert "distinct values" in " ".join(examine_scan(mask, role="target", limits=limits).remarks)


def replaced(slice_of: Callable[[Array, int], NDArray[np.generic]]) -> Callable[[Array], Array]:
    def changed(a: Array) -> Array:
        out = a.copy()
        out[MIDDLE] = slice_of(a, MIDDLE)
        return out

    return changed


NOISE = np.random.default_rng(0)
WRONG: dict[str, tuple[Callable[[Array], Array], str]] = {
    "twice": (replaced(lambda a, i: a[i - 1]), "repeated slice 4"),
    "twice, noisy": (
        replaced(lambda a, i: np.maximum(a[i - 1] + NOISE.normal(0, 0.005 * a.max(), a[i].shape), 0)),
        "repeated slice 4",
    ),
    "all twice": (lambda a: np.repeat(a[::2], 2, axis=0)[:9], "repeated slice 1, 3"),
    "the mean of its neighbours": (replaced(lambda a, i: (a[i - 1] + a[i + 1]) / 2), "blended slice 4"),
    "exchanged": (lambda a: a[[0, 1, 2, 4, 3, 5, 6, 7, 8]], "slices 3 and 4 exchanged"),
    "elsewhere": (replaced(lambda a, i: np.roll(a[i], 60, axis=0)), "foreign slice 4"),
    "noise": (
        replaced(lambda a, i: np.abs(NOISE.normal(0, 0.5 * a.max(), a[i].shape))),
        "(foreign|bright) slice 4",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_slice_that_is_repeated_or_anothers_refuses_the_scan(
    pair: tuple[Volume, Volume], kind: str
) -> None:
    make, message = WRONG[kind]
    for volume, role in zip(pair, ("target", "reference"), strict=True):
        spoilt = with_array(volume, make(volume.magnitude()))
        chosen = (spoilt, pair[1]) if role == "target" else (pair[0], spoilt)
        if kind == "noise" and role == "target":
            continue  # as bright as its neighbours or brighter, by the contrast: left out or refused
        with pytest.raises(ScanInvalid, match=f"the {role} has faulty slices.*{message}"):
            examine(*chosen, limits=LIMITS)


@pytest.mark.parametrize("level", [0.0, 0.3, 3.0])
def test_a_slice_that_is_lost_is_not_used_and_all_that_goes_with_it_is_counted(
    pair: tuple[Volume, Volume], level: float
) -> None:
    whole, figures = examine(*pair, limits=LIMITS).used_with(None)
    assert figures.unused_slices == 0
    spoilt = with_array(pair[0], replaced(lambda a, i: level * a[i])(pair[0].magnitude()))
    use, figures = examine(spoilt, pair[1], limits=LIMITS).used_with(None)
    assert MIDDLE not in range(use.first, use.stop)
    assert figures.faulty_slices == 1
    assert figures.anatomy_slices == whole.anatomy
    assert figures.cut_off_slices == whole.anatomy - 1 - (use.stop - use.first) > 0
    assert f"{figures.unused_slices} of {whole.anatomy} slices with anatomy are not used" in figures.as_text()
    lost = with_array(pair[1], replaced(lambda a, i: level * a[i])(pair[1].magnitude()))
    with pytest.raises(ScanInvalid, match=r"the reference has faulty slices.*slice 4"):
        examine(pair[0], lost, limits=LIMITS)


def test_slices_that_the_reference_does_not_cover_are_counted(pair: tuple[Volume, Volume]) -> None:
    covered = np.ones(pair[0].array.shape, dtype=bool)
    covered[:3] = False
    use, figures = examine(*pair, limits=LIMITS).used_with(covered)
    assert (use.first, figures.unguided_slices, figures.cut_off_slices) == (3, 3, 0)


@pytest.mark.parametrize("axis", [0, 2])
def test_a_reference_that_is_too_coarse_is_refused_and_one_that_is_coarse_is_measured(
    pair: tuple[Volume, Volume], axis: int
) -> None:
    for factor, refused in ((4.0, True), (2.0, False)):
        affine, spacing = pair[1].affine.copy(), list(pair[1].spacing_mm)
        affine[:3, axis] *= factor
        spacing[axis] *= factor
        coarse = dataclasses.replace(pair[1], affine=affine, spacing_mm=(spacing[0], spacing[1], spacing[2]))
        if refused:
            with pytest.raises(ScanInvalid, match=r"too coarse.*4\.0 times"):
                examine(pair[0], coarse, limits=LIMITS)
        else:
            assert examine(pair[0], coarse, limits=LIMITS).reference_step == pytest.approx(2)


def test_an_interpolated_target_is_cropped_refused_or_remarked_as_the_site_says(
    pair: tuple[Volume, Volume],
) -> None:
    finer = ndimage.zoom(pair[0].magnitude(), (1, 1, 2), order=3, mode="nearest", grid_mode=True)
    affine = pair[0].affine.copy()
    affine[:3, 2] /= 2
    through, down, across = pair[0].spacing_mm
    stored = Volume(np.maximum(finer, 0), (through, down, across / 2), affine, "T2")
    examined = examine(stored, pair[1], limits=LIMITS)
    assert examined.cropped
    assert examined.target.array.shape == pytest.approx(pair[0].array.shape, abs=4)
    figures = examined.used_with(None)[1]
    assert figures.in_plane == pytest.approx(0.5, abs=0.02)
    assert "cropped to what was measured" in figures.as_text()
    kept = examine(stored, pair[1], limits=QualitySettings(interpolated_target="remark"))
    assert kept.target is stored
    with pytest.raises(ScanInvalid, match=r"interpolated.*of the column frequencies"):
        examine(stored, pair[1], limits=QualitySettings(interpolated_target="refuse"))


GOOD: dict[str, Callable[[Array], NDArray[np.generic]]] = {
    "as it is": lambda a: a,
    "8 bits": lambda a: np.rint(a / a.max() * 255),
    "8 bits, windowed": lambda a: np.rint(np.minimum(a / np.percentile(a, 99.5), 1) * 255),
    "from 0 to 1": lambda a: a / a.max(),
    "noisy": lambda a: np.hypot(a + NOISE.normal(0, 0.1 * a.max(), a.shape), 0.1 * a.max()),
    "smoothed": lambda a: ndimage.gaussian_filter(a, (0, 0.7, 0.7)),
    "shaded": lambda a: a * np.linspace(0.4, 2, a.shape[1])[:, None],
    "brain alone": lambda a: a * anatomy_of(a),
    "framed": lambda a: np.pad(a, ((0, 0), (40, 40), (40, 40))),
    "interleaved": lambda a: a * (1 + 0.15 * (np.arange(len(a)) % 2))[:, None, None],
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_scan_passes_however_it_was_exported(pair: tuple[Volume, Volume], kind: str) -> None:
    for volume in pair:
        figures = examine_scan(
            with_array(volume, GOOD[kind](volume.magnitude())), role="target", limits=LIMITS
        )
        assert not figures.faults.named()
        noiseless = [remark for remark in figures.remarks if "free of noise" in remark]
        assert bool(set(figures.remarks) - set(noiseless)) == kind.startswith("8 bits")
        assert bool(noiseless) == (kind == "smoothed")


def test_a_map_without_noise_is_taken_with_a_remark_that_says_so(pair: tuple[Volume, Volume]) -> None:
    image = pair[0].magnitude()
    level = ndimage.gaussian_filter(image / np.percentile(image, 99), (0, 1.5, 1.5))
    t1_ms = 4000 * np.exp(-1.8 * level) * anatomy_of(image)
    figures = examine_scan(with_array(pair[0], t1_ms), role="target", limits=LIMITS)
    assert any("free of noise" in remark and "map" in remark for remark in figures.remarks)


@pytest.mark.surrogate
@pytest.mark.parametrize("name", ["clinical/patient04_study1", "brain_1mm/patient07"])
def test_real_pairs_pass_and_what_was_interpolated_is_said(name: str) -> None:
    folder, _, patient = name.partition("/")
    suffix = "W" if folder == "clinical" else ""
    target, reference = (
        read_nifti(surrogate_folder(folder) / patient / f"{one}{suffix}.nii.gz", contrast=one)
        for one in ("T2", "T1")
    )
    examined = examine(target, reference, limits=LIMITS)
    figures = examined.used_with(None)[1]
    assert not examined.cropped
    assert figures.unused_slices == 0
    assert not figures.remarks
    if folder == "clinical":  # the columns' outer third is empty
        assert figures.in_plane == pytest.approx(0.67, abs=0.02)
    else:  # slices of 3 mm on a grid of 1 mm
        assert figures.reference_occupied[0] == pytest.approx(0.42, abs=0.05)
        assert figures.reference_step > 2


def test_an_ingest_refuses_the_hot_voxel_by_name_before_anything_is_registered(tmp_path: Path) -> None:
    for contrast in ("T1", "T2"):
        volume = make_volume(3, contrast)
        array = volume.array.copy()
        array[4, 20, 3] = 32000 if contrast == "T2" else array[4, 20, 3]
        write_nifti(tmp_path / f"{contrast}.nii.gz", dataclasses.replace(volume, array=array))
    candidate = Candidate(
        label="P1", patient_id="P1", target=tmp_path / "T2.nii.gz", reference=tmp_path / "T1.nii.gz"
    )
    with pytest.raises(ScanInvalid, match=r"the target holds what is no anatomy.*\(4, 20, 3\)"):
        make_pair(candidate, definition("sms"), patient="ab")
