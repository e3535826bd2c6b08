"""Whether a pair shows what another patient's pair shows: every new pair is compared with all of the store.

The same scans under two names put one patient into training and test. Bytes do not tell: a file that is written again
has others. So the images are compared (`sites.duplicates.signature`): target with target, reference with reference,
and each with the other's, since one that two patients share is enough.

    likeness of two images                                            least    most
    5 real patients, each with 16 altered copies of both images       0.925    1.000
    5 real patients, all pairs of two                                 -        0.524
    30 phantom brains, all pairs of two, 435 of each contrast         -        0.743
    14 phantom knees, all pairs of two, 91 of each contrast           -        0.807

The copies: other gain, gamma 0.7, receive field 30%, padded, cropped by 20% along each axis, half of the slices,
noise of 2% and 5%, smoothed by 1 and 2 mm, other voxels, turned by up to 10 degrees and shifted by up to 15 mm, and
all of these together, as a second examination is. LIMIT lies between. A second examination that is real was not at
hand: open_ms has one of each patient.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from minet_core.imaging.volume import Pair
from minet_core.runtime.files.atomic_write import write_private
from sites.duplicates.signature import EDGE, MIN_VOXELS, Floats, Signature, rank, signature_of, similarity

FILE = "signatures.safetensors"
LIMIT = 0.85
COPY = 0.99
"""From here on it is called the same scan: a second examination, other voxels or other noise stay below."""
N_COMPARED = 6
"""How many images, the likest at 12 mm, are aligned and compared."""
MIN_COARSE = 0.5
"""Likeness at 12 mm below which none is. 340 altered copies, ten of each image of nine phantom patients of three sites
(seeds 71, 72, 601), of six small phantoms and of five real patients: 0.69 at the least. Nine of ten pairs of strangers
among them: below 0.56."""


Images = Mapping[str, Signature]


@dataclass(frozen=True)
class Match:
    """A pair of another patient that is alike. role: which image of the new pair; file, patient: whose it is like."""

    file: str
    patient: str
    role: str
    likeness: float


@dataclass(frozen=True)
class _Entry:
    patient: str
    file: str
    signature: Signature
    coarse: Floats


class Signatures:
    """The signatures of a store's pairs, kept in the store. They are made again where the file is lost or damaged.

    Parameters
    ----------
    store
        The folder of the store.
    patients
        By name of a pair's file, the pseudonym of its patient; what the kept file has of others is left out.
    """

    def __init__(self, store: Path, *, patients: Mapping[str, str]) -> None:
        self._path = store / FILE
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._saved: set[tuple[str, str]] = set()
        for key, values in _read(self._path).items():
            file, _, role = key.partition("/")
            if file in patients:
                self._put(file, patients[file], role, Signature(values))
            self._saved.add((file, role))

    def __contains__(self, file: object) -> bool:
        return any(kept == file for kept, _ in self._entries)

    def add(self, images: Images, *, file: str, patient: str) -> None:
        """Keep a pair's signatures.

        Parameters
        ----------
        images
            By role, "target" and "reference".
        file
            The name of the pair's file in the store.
        patient
            The pseudonym of the patient whose it is.
        """
        for role, signature in images.items():
            self._put(file, patient, role, signature)

    def drop(self, file: str) -> None:
        """Forget a pair.

        Parameters
        ----------
        file
            The name of its file; one that is not kept is no error.
        """
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] != file}

    def nearest(self, images: Images, *, patient: str, limit: float) -> Match | None:
        """The pair of another patient that is most like this one.

        Parameters
        ----------
        images
            By role, the signatures of the new pair; each is compared with targets and references alike.
        patient
            The pseudonym of the patient whose pairs are left out.
        limit
            Least likeness, -1 to 1.

        Returns
        -------
        Match | None
            None where no image reaches the limit, or shows enough to be compared.
        """
        others = [entry for entry in self._entries.values() if entry.patient != patient]
        if not others:
            return None
        coarse = np.stack([entry.coarse for entry in others], axis=1)
        best: Match | None = None
        for role, one in images.items():
            if one.mask.sum() < MIN_VOXELS:
                continue
            likeness, starts = rank(one, coarse)
            likest = np.argsort(-likeness)[:N_COMPARED]
            for index in likest[likeness[likest] >= min(MIN_COARSE, limit)]:
                entry = others[index]
                other = Signature(entry.signature.values)  # what it computes is not kept
                found = similarity(one, other, starts=starts[:, index])
                if found >= max(limit, best.likeness if best else -1.0):
                    best = Match(entry.file, entry.patient, role, found)
        return best

    def coarse_pairs(self, files: Collection[str]) -> dict[str, dict[str, Floats]]:
        """The images at 12 mm of the pairs that have both.

        Parameters
        ----------
        files
            Names of the pairs' files.

        Returns
        -------
        dict[str, dict[str, Floats]]
            By file and role, (2, voxel): the image, and its foreground.
        """
        found: dict[str, dict[str, Floats]] = {file: {} for file in files}
        for (file, role), entry in self._entries.items():
            if file in found:
                found[file][role] = entry.coarse
        return {file: images for file, images in found.items() if len(images) == 2}

    def save(self, files: Collection[str]) -> None:
        """Keep these files' signatures and no others; nothing is written where nothing has changed.

        Parameters
        ----------
        files
            Names of the pairs' files.
        """
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] in files}
        if self._entries.keys() != self._saved:
            content = {
                f"{file}/{role}": entry.signature.values for (file, role), entry in self._entries.items()
            }
            write_private(self._path, safetensors.numpy.save(dict(sorted(content.items()))))
            self._saved = set(self._entries)

    def _put(self, file: str, patient: str, role: str, signature: Signature) -> None:
        plain = Signature(signature.values)  # without the 20 MB that a comparison computed
        self._entries[file, role] = _Entry(patient, file, plain, Signature(signature.values).coarse)


def images_of(pair: Pair) -> Images:
    """The signatures of a pair.

    Parameters
    ----------
    pair
        Target and reference on one grid.

    Returns
    -------
    Images
        By role, "target" and "reference".
    """
    return {"target": signature_of(pair.target), "reference": signature_of(pair.reference)}


def _read(path: Path) -> dict[str, NDArray[np.int8]]:
    """What is kept; nothing where there is no whole file of this form."""
    try:
        content = safetensors.numpy.load(path.read_bytes())
    except (OSError, SafetensorError):
        return {}
    whole = all(values.shape == (EDGE,) * 3 and values.dtype == np.int8 for values in content.values())
    return content if whole else {}
