#!/bin/sh
# twixtools 0.24 (raw data of Siemens' scanners): the flag 'remove_os' halves the field of view along the readout before lines of EPI that were
# read backwards are turned round. To turn N samples round moves the middle of k-space by one sample of those that are left,
# and these are now twice as far apart. So every second line lies one acquired sample aside from where the same line lies without the flag,
# and a perfect EPI has a ghost half the field of view away: none in the middle of the readout, half as bright as the picture at 64 mm of
# a field of view of 220 mm, brighter beside it. The readme says of the flag "oversampling removal. Reduces the number of columns by
# a factor of two"; nothing is raised or warned of. Lines of phase correction that are read with the flag lie aside alike, and a linear
# correction by them takes it out; one by lines that were read without the flag, or none, does not, and the scanner's delays are blamed.
# pymapVBVD 0.7.0 turns the lines first, and has no ghost of the same file. Remedy: to read without the flag, and to crop the picture.
#
# Output seen (a slab beside the middle; its ghost as a part of it, in percent):
#   twixtools: at 0 mm 1, at 25 mm 1, at 64 mm 1, at 90 mm 1
#   twixtools, remove_os: at 0 mm 2, at 25 mm 17, at 64 mm 49, at 90 mm 73
#   twixtools, remove_os, and corrected by lines read so: at 0 mm 1, at 25 mm 1, at 64 mm 1, at 90 mm 1
#   pymapVBVD: at 0 mm 1, at 25 mm 1, at 64 mm 1, at 90 mm 1
#   pymapVBVD, flagRemoveOS: at 0 mm 1, at 25 mm 1, at 64 mm 1, at 90 mm 1
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check twixtools==0.24 pymapVBVD==0.7.0 numpy==2.4.6 scipy==1.17.1
cat > "$work/look.py" <<'PY'
import contextlib
import io
import sys
from pathlib import Path

import mapvbvd
import numpy as np
import twixtools
from twixtools.mdb import Mdb_local

FIELD_MM = 220.0
N_LINES = 64
N_SAMPLES = 128  # the readout covers two fields of view
ROW_MM = 20.0
ALONG = (np.arange(N_SAMPLES) - (N_SAMPLES - 1) / 2) / (2 * FIELD_MM)  # even about the echo's middle, 1 / mm
ACROSS = (np.arange(N_LINES) - N_LINES // 2) / FIELD_MM


def slab(wave_number, place, width):
    return width * np.sinc(width * wave_number) * np.exp(-2j * np.pi * wave_number * place)


def header():
    """Two empty protocols: the length of all, their number, and name, length and text of each."""
    text = b'<XProtocol>\n{\n  <ParamLong."lDummy"> { 1 }\n}\n'
    protocols = b"".join(name + b"\0" + np.uint32(len(text)).tobytes() + text for name in (b"Meas", b"MeasYaps"))
    length = -(-(8 + len(protocols)) // 32) * 32
    return np.frombuffer((np.array([length, 2], "<u4").tobytes() + protocols).ljust(length, b"\0"), np.uint8)


def line(place, number, across, flags):
    backwards = number % 2 == 1
    one = Mdb_local((slab(-ALONG if backwards else ALONG, place, 8.0) * slab(across, ROW_MM, 30.0)).astype(np.complex64))
    one.mdh.Counter.Lin = number
    for flag in (*flags, *(["REFLECT"] if backwards else [])):
        one.add_flag(flag)
    return one


def acquire(place, path):
    lines = [line(place, number, 0.0, ["PHASCOR"]) for number in range(2)]
    lines += [line(place, number, across, []) for number, across in enumerate(ACROSS)]
    twixtools.write_twix({"mdb": lines, "hdr": {}, "hdr_str": header()}, str(path))


def hybrid(lines):
    """The Fourier transform along the readout."""
    return np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(lines, axes=-1)), axes=-1)


def ghost(places):
    """In percent of the slab, of lines after `hybrid`."""
    picture = abs(np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(places, axes=0), axis=0), axes=0))
    row = round(N_LINES / 2 + ROW_MM / FIELD_MM * N_LINES)
    column = picture[row].argmax()
    near = slice(max(column - 6, 0), column + 7)
    return 100 * picture[row - N_LINES // 2, near].sum() / picture[row, near].sum()


def by_twixtools(path, flag):
    read = twixtools.map_twix(twixtools.read_twix(str(path), parse_pmu=False, parse_geometry=False, verbose=False))[-1]
    for kind in ("image", "phasecorr"):
        read[kind].flags["remove_os"] = flag
    image, pair = hybrid(read["image"][:].reshape(N_LINES, -1)), hybrid(read["phasecorr"][:].reshape(2, -1))
    corrected = image.copy()
    corrected[1::2] *= np.exp(1j * np.angle(pair[0] * pair[1].conj()))
    return ghost(image), ghost(corrected)


def by_mapvbvd(path, flag):
    image = mapvbvd.mapVBVD(str(path), quiet=True)["image"]
    image.flagRemoveOS = flag
    image.squeeze = True
    return ghost(hybrid(image[""].T))


rows = {}
for place in (0, 25, 64, 90):
    path = Path(sys.argv[1]) / f"at-{place}.dat"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        acquire(place, path)
        whole, _ = by_twixtools(path, False)
        halved, corrected = by_twixtools(path, True)
        others = by_mapvbvd(path, False), by_mapvbvd(path, True)
    rows.setdefault("twixtools", []).append((place, whole))
    rows.setdefault("twixtools, remove_os", []).append((place, halved))
    rows.setdefault("twixtools, remove_os, and corrected by lines read so", []).append((place, corrected))
    rows.setdefault("pymapVBVD", []).append((place, others[0]))
    rows.setdefault("pymapVBVD, flagRemoveOS", []).append((place, others[1]))
for name, row in rows.items():
    print(f"{name}:", ", ".join(f"at {place} mm {percent:.0f}" for place, percent in row))
PY
"$work/env/bin/python" -W always "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt"
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
