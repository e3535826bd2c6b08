"""Pairs of slices by number, for training: each read from its file when asked for, never a whole volume."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid
from sites.store.hdf5_file import open_to_read
from sites.store.pair_file import ROLES, reading, require_pair
from sites.store.split import Split
from sites.store.store import Store

OPEN_FILES = 32


def require_patch(store: Store, patch_px: int | None) -> None:
    """Refuse a training slice that is smaller than a patch, naming the pair.

    Parameters
    ----------
    store
        The site's; its cohort alone is read.
    patch_px
        Edge of a patch, px; None: no patch, and nothing is refused.

    Raises
    ------
    ScanInvalid
        FM-D202.
    """
    for pair, _ in store.cohort.pairs_of("training") if patch_px is not None else ():
        n_slices, *edges = pair.shape
        if patch_px is not None and min(edges) < patch_px:
            raise ScanInvalid(
                "a pair's slices are smaller than the patch",
                got=f"{pair.file} of {store.path}: {n_slices} slices of {edges[0]} x {edges[1]} px",
                expected=f"at least {patch_px} px an axis",
                action="The report of `fedminet site ingest` names the scans that the file is made of, and `--dry-run` "
                "their grids: where these are not as they were measured, export the scans again; where they are, set "
                "a smaller patch_px",
            )


class StoreSlices:
    """The slices of one split, in a fixed order: (target (H, W) float32 or complex64, reference (H, W) float32).

    Files are opened at the first use, separately in every process: it may be pickled or forked at any time.

    Parameters
    ----------
    store
        The site's; its cohort alone is read here.
    split
        "training", "validation" or "test".
    """

    def __init__(self, store: Store, split: Split) -> None:
        self._folder = store.path
        self._places = [
            (pair.file, index) for pair, indices in store.cohort.pairs_of(split) for index in indices
        ]
        self.shapes = [
            pair.shape[1:] for pair, indices in store.cohort.pairs_of(split) for _ in indices
        ]  # (H, W) of every slice, known without a file being read
        self._shape_of = {pair.file: pair.shape for pair in store.cohort.pairs}
        self._open: OrderedDict[str, h5py.File] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """One pair of slices, read from its file.

        Parameters
        ----------
        index
            0 to `len(self) - 1`.

        Returns
        -------
        tuple[NDArray[Any], NDArray[np.float32]]
            Target (H, W), float32 or complex64, and reference (H, W), float32.

        Raises
        ------
        IndexError
            There is no such slice.
        StoreDamaged
            FM-D207: a checksum fails, or the file is not what the cohort says.
        FileNotWritten
            FM-S509 or its kind: the file system does not give it.
        """
        name, number = self._places[index]
        with reading(f"{name}, slice {number}", self._folder / name):
            file = self._file(name)
            target, reference = (file[role][number] for role in ROLES)
        return target, reference

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def _file(self, name: str) -> h5py.File:
        if os.getpid() != self._process:  # a fork: the parent's handles are the parent's
            self._open, self._process = OrderedDict(), os.getpid()
        if name not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            file = open_to_read(self._folder / name)
            require_pair(file, self._folder / name, shape=self._shape_of[name])
            self._open[name] = file
        self._open.move_to_end(name)
        return self._open[name]
