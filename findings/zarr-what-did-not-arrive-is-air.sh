#!/bin/sh
# zarr 3.1.6: an array is a folder of chunks, and a chunk that is not there is read as the fill value, 0 by default: the format has it so, for chunks in
# which nothing is stored. So a file that a copy, a synchronisation or a full disk lost is a slice of air. Nothing is raised or warned of, and nothing
# in the array tells: zarr itself leaves out chunks of which all is 0 (write_empty_chunks is False), so that a mask, or the first slices of a head, are
# missing in whole copies too, and nchunks_initialized, the count that is offered, is below nchunks there as well. A chunk that is cut off is an error,
# so what the reader notices is believed to be all. (That lost and empty chunks are alike is issue 486 of its repository, open.) (2) Shards, which hold
# many chunks in a file and have a checksum, make the loss larger: a lost one is half of a patient, and one of no bytes, as a copy onto a full disk
# leaves it, is the same, without an error; an empty file of a single chunk is one. HDF5 (h5py 3.16.0) refuses a file from which as much is missing.
# Remedies: fill_value=nan, which shows the loss in values that are real numbers; write_empty_chunks and a comparison of nchunks_initialized with
# nchunks after each copy; digests of all files that travel with them.
#
# Output seen (eight slices of about 100; the means of the slices as read):
#   whole: 100 100 100 100 100 100 100 100
#   a slice's chunk lost: 100 100 100 0 100 100 100 100, chunks 7 of 8
#   a mask of one slice, nothing lost: chunks 1 of 8
#   a chunk cut off: RuntimeError
#   a chunk of no bytes: RuntimeError
#   one of two shards lost: 100 100 100 100 0 0 0 0
#   a shard cut off: ValueError
#   a shard of no bytes: 100 100 100 100 0 0 0 0
#   fill_value=nan, a slice's chunk lost: 100 100 100 nan 100 100 100 100
#   a mask with write_empty_chunks, nothing lost: chunks 8 of 8
#   HDF5, the second half of the file lost: OSError
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check zarr==3.1.6 h5py==3.16.0 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import zarr

work = Path(sys.argv[1])
head = np.random.default_rng(0).normal(100, 10, (8, 64, 64)).astype(np.float32)
mask = np.zeros(head.shape, dtype=np.uint8)
mask[2] = 1


def written(name: str, values: np.ndarray, **options) -> Path:
    folder = work / f"{name}.zarr"
    array = zarr.create_array(folder, shape=values.shape, chunks=(1, 64, 64), dtype=values.dtype, **options)
    array[:] = values
    return folder


def means(folder: Path) -> str:
    try:
        values = zarr.open_array(folder, mode="r")[:]
    except (RuntimeError, ValueError) as error:
        return type(error).__name__
    return " ".join(f"{slice_.mean():.0f}" for slice_ in values)


def chunks(folder: Path) -> str:
    array = zarr.open_array(folder, mode="r")
    return f"chunks {array.nchunks_initialized} of {array.nchunks}"


def cut(path: Path, *, to: int) -> None:
    path.write_bytes(path.read_bytes()[:to])


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    folder = written("whole", head)
    print(f"whole: {means(folder)}")
    (folder / "c/3/0/0").unlink()
    print(f"a slice's chunk lost: {means(folder)}, {chunks(folder)}")
    print(f"a mask of one slice, nothing lost: {chunks(written('mask', mask))}")
    folder = written("cut", head)
    cut(folder / "c/3/0/0", to=5000)
    print(f"a chunk cut off: {means(folder)}")
    cut(folder / "c/3/0/0", to=0)
    print(f"a chunk of no bytes: {means(folder)}")
    folder = written("shards", head, shards=(4, 64, 64))
    (folder / "c/1/0/0").unlink()
    print(f"one of two shards lost: {means(folder)}")
    folder = written("cut-shards", head, shards=(4, 64, 64))
    cut(folder / "c/1/0/0", to=20000)
    print(f"a shard cut off: {means(folder)}")
    cut(folder / "c/1/0/0", to=0)
    print(f"a shard of no bytes: {means(folder)}")
    folder = written("nan", head, fill_value=np.nan)
    (folder / "c/3/0/0").unlink()
    print(f"fill_value=nan, a slice's chunk lost: {means(folder)}")
    folder = written("all", mask, config={"write_empty_chunks": True})
    print(f"a mask with write_empty_chunks, nothing lost: {chunks(folder)}")
    path = work / "whole.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("head", data=head, chunks=(1, 64, 64))
    cut(path, to=path.stat().st_size // 2)
    try:
        with h5py.File(path) as file:
            seen = str(file["head"][:].mean())
    except OSError as error:
        seen = type(error).__name__
    print(f"HDF5, the second half of the file lost: {seen}")
print("warned:", "; ".join(sorted({str(one.message)[:60] for one in told})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
