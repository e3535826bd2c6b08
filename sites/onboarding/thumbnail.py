"""Small pictures of a pair in which no face can be seen.

Of one slice, the middle one of those that are used, the outer `RIM_MM` of the anatomy is left out: the skin, and with
it every profile, in whatever plane the slice lies. What is left is the inside.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from sites.store.cohort import PairRecord
from sites.store.pair_file import ROLES, open_pair
from sites.store.store import Store

RIM_MM = 12.0
"""Skin, fat and skull over the brain together, and more than lips or eyelids; a nose is gone with it."""
FOREGROUND_LEVEL = 0.1
EDGE_PX = 176

Grey = NDArray[np.float32]


def thumbnails(store: Store, pair: PairRecord) -> dict[str, str]:
    """The pictures of a pair.

    Parameters
    ----------
    store
        The site's; one slice is read.
    pair
        Of its cohort.

    Returns
    -------
    dict[str, str]
        "target", "reference" and "overlap" (target red, reference cyan: grey where both agree) as data URIs of PNG.

    Raises
    ------
    StoreDamaged, FileNotWritten
        As `sites.store.pair_file.open_pair`.
    """
    index = (pair.usable_slices[0] + pair.usable_slices[1]) // 2
    with open_pair(store.path / pair.file, shape=pair.shape) as file:
        images = [np.abs(file[role][min(index, pair.shape[0] - 1)]).astype(np.float32) for role in ROLES]
        spacing_mm = [float(step) for step in file.attrs["spacing_mm"][1:]]
    shown = inside_of(images[0], (spacing_mm[0], spacing_mm[1]))
    window = _around(shown)
    target, reference = (_grey(np.where(shown, image, 0)[window]) for image in images)
    step = min(spacing_mm)
    size = [round(n * one / step) for n, one in zip(target.shape, spacing_mm, strict=True)]
    scale = EDGE_PX / max(size)
    onto = (max(1, round(size[1] * scale)), max(1, round(size[0] * scale)))
    colour = np.stack([target, reference, reference], axis=-1)
    return {
        name: _uri(image, onto)
        for name, image in (("target", target), ("reference", reference), ("overlap", colour))
    }


def inside_of(image: Grey, spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """Where a slice may be shown.

    Parameters
    ----------
    image
        (row, column), a magnitude.
    spacing_mm
        Of rows and of columns.

    Returns
    -------
    NDArray[np.bool_]
        (row, column): deeper in the anatomy than `RIM_MM`. The picture's own edge, where anatomy is cut off, counts as
        outside.
    """
    level = FOREGROUND_LEVEL * np.percentile(image, 99)
    body = ndimage.binary_fill_holes(ndimage.gaussian_filter(image, 1.0) > level)
    depth = ndimage.distance_transform_edt(np.pad(body, 1), sampling=spacing_mm)[1:-1, 1:-1]
    return np.asarray(depth > RIM_MM)


def _around(shown: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The part of a picture with something in it; all of it where nothing may be shown."""
    rows, columns = (np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _grey(image: Grey) -> Grey:
    shown = image[image > 0]
    top = float(np.percentile(shown, 99.5)) if shown.size else 1.0
    return np.asarray(np.clip(image / max(top, 1e-12), 0, 1), np.float32)


def _uri(image: Grey, size: tuple[int, int]) -> str:
    picture = Image.fromarray((image * 255).round().astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
