#!/bin/sh
# h5py 3.16.0 and hdf5plugin 7.1.0: a map (T1, ADC) is often nan outside of its mask and where the fit failed. Two lossy filters of HDF5 take it without a word,
# and give something else back. (1) scaleoffset=3 retains 3 "digits after the decimal place"; "stored values thus have absolute error less than
# 0.5*10**(-scaleoffset)", says create_dataset's docstring. One voxel without a fit comes back as the chunk's smallest value, a plausible tissue. A float32 chunk
# that begins with nan, as that of a masked slice does, is written without an error and cannot be read any more ("filter returned failure during
# read"): its right values are lost too. As float64 the same slice came back whole. (2) Zfp(accuracy=0.001) makes of the voxel without a fit a T1 of 4 s, which is
# in no map, and of the outside 0: whoever takes the mean over what is not nan has a quarter of the T1. Fitted voxels are right to the
# accuracy asked for. Lossless filters, Zfp(reversible=True) among them, keep nan. The docstring of create_dataset does not speak of
# nan. The remedy is a number in its place with the mask beside it, and to read back what was written before the original goes. Seen on x86-64.
#
# Output seen:
#   gzip float32, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
#   gzip float32, slice 1: fitted voxels right, nan kept, mean 1.086 of 1.086
#   gzip float32, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
#   gzip float64, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
#   gzip float64, slice 1: fitted voxels right, nan kept, mean 1.086 of 1.086
#   gzip float64, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
#   scaleoffset=3 float32, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
#   scaleoffset=3 float32, slice 1: fitted voxels right, nan is 0.801 to 0.801, mean 1.085 of 1.086
#   scaleoffset=3 float32, slice 2: unreadable (filter)
#   scaleoffset=3 float64, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
#   scaleoffset=3 float64, slice 1: fitted voxels right, nan is 0.801 to 0.801, mean 1.085 of 1.086
#   scaleoffset=3 float64, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
#   Zfp(accuracy=0.001) float32, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
#   Zfp(accuracy=0.001) float32, slice 1: fitted voxels right, nan is 4.000 to 4.000, mean 1.097 of 1.086
#   Zfp(accuracy=0.001) float32, slice 2: fitted voxels right, nan is 0.000 to 0.000, mean 0.289 of 1.157
#   Zfp(accuracy=0.001) float64, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
#   Zfp(accuracy=0.001) float64, slice 1: fitted voxels right, nan is 4.000 to 4.000, mean 1.097 of 1.086
#   Zfp(accuracy=0.001) float64, slice 2: fitted voxels right, nan is 0.000 to 0.000, mean 0.289 of 1.157
#   Zfp(reversible=True) float32, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
#   Zfp(reversible=True) float32, slice 1: fitted voxels right, nan kept, mean 1.086 of 1.086
#   Zfp(reversible=True) float32, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
#   Zfp(reversible=True) float64, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
#   Zfp(reversible=True) float64, slice 1: fitted voxels right, nan kept, mean 1.086 of 1.086
#   Zfp(reversible=True) float64, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check h5py==3.16.0 hdf5plugin==7.1.0 numpy==2.4.6
"$work/env/bin/python" - "$work" > "$work/seen.txt" <<'PYTHON'
import sys

import h5py
import hdf5plugin
import numpy as np

PATH = f"{sys.argv[1]}/map.h5"
# A T1 map in seconds of four slices, a chunk a slice: the first fills the picture, of the second one voxel has no fit, of
# the others the mask is a square in the middle.
t1 = np.random.default_rng(1).uniform(0.8, 1.4, (4, 16, 16))
t1[1, 8, 8] = np.nan
outside = np.ones((16, 16), bool)
outside[4:12, 4:12] = False
t1[2:, outside] = np.nan


def slice_that_comes_back(stored: h5py.Dataset, n: int, truth: np.ndarray) -> str:
    try:
        back = stored[n]
    except OSError as error:
        return "unreadable (filter)" if "filter returned failure" in str(error) else str(error)
    fitted = ~np.isnan(truth)
    error = "right" if np.abs(back - truth)[fitted].max() < 0.00051 else "wrong"
    made = back[~fitted]
    kept = "no nan" if made.size == 0 else "nan kept" if np.isnan(made).all() else f"nan is {made.min():.3f} to {made.max():.3f}"
    return f"fitted voxels {error}, {kept}, mean {np.nanmean(back):.3f} of {np.nanmean(truth):.3f}"


FILTERS = {
    "gzip": {"compression": "gzip"},
    "scaleoffset=3": {"scaleoffset": 3},
    "Zfp(accuracy=0.001)": dict(hdf5plugin.Zfp(accuracy=0.001)),
    "Zfp(reversible=True)": dict(hdf5plugin.Zfp(reversible=True)),
}
for name, options in FILTERS.items():
    for dtype in ("float32", "float64"):
        with h5py.File(PATH, "w") as file:
            file.create_dataset("t1", data=t1.astype(dtype), chunks=(1, 16, 16), **options)
        with h5py.File(PATH) as file:
            for n in range(3):
                print(f"{name} {dtype}, slice {n}: {slice_that_comes_back(file['t1'], n, t1[n].astype(dtype))}")
PYTHON
cat "$work/seen.txt"
cat > "$work/expected.txt" <<'TXT'
gzip float32, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
gzip float32, slice 1: fitted voxels right, nan kept, mean 1.086 of 1.086
gzip float32, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
gzip float64, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
gzip float64, slice 1: fitted voxels right, nan kept, mean 1.086 of 1.086
gzip float64, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
scaleoffset=3 float32, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
scaleoffset=3 float32, slice 1: fitted voxels right, nan is 0.801 to 0.801, mean 1.085 of 1.086
scaleoffset=3 float32, slice 2: unreadable (filter)
scaleoffset=3 float64, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
scaleoffset=3 float64, slice 1: fitted voxels right, nan is 0.801 to 0.801, mean 1.085 of 1.086
scaleoffset=3 float64, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
Zfp(accuracy=0.001) float32, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
Zfp(accuracy=0.001) float32, slice 1: fitted voxels right, nan is 4.000 to 4.000, mean 1.097 of 1.086
Zfp(accuracy=0.001) float32, slice 2: fitted voxels right, nan is 0.000 to 0.000, mean 0.289 of 1.157
Zfp(accuracy=0.001) float64, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
Zfp(accuracy=0.001) float64, slice 1: fitted voxels right, nan is 4.000 to 4.000, mean 1.097 of 1.086
Zfp(accuracy=0.001) float64, slice 2: fitted voxels right, nan is 0.000 to 0.000, mean 0.289 of 1.157
Zfp(reversible=True) float32, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
Zfp(reversible=True) float32, slice 1: fitted voxels right, nan kept, mean 1.086 of 1.086
Zfp(reversible=True) float32, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
Zfp(reversible=True) float64, slice 0: fitted voxels right, no nan, mean 1.100 of 1.100
Zfp(reversible=True) float64, slice 1: fitted voxels right, nan kept, mean 1.086 of 1.086
Zfp(reversible=True) float64, slice 2: fitted voxels right, nan kept, mean 1.157 of 1.157
TXT
cmp "$work/seen.txt" "$work/expected.txt"
