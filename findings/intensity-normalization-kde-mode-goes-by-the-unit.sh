#!/bin/sh
# intensity-normalization 3.0.1: the method "kde" divides a picture by "the mode of a tissue", white matter's in T1, which it looks for among the
# peaks of a smoothed histogram. It gives scipy's gaussian_kde 1/80 of the brightest value as bw_method. A number there is no width: scipy multiplies it
# by the values' own standard deviation. So of a T1 as scanners store it, with a brightest value of 1000 and a deviation of 230, the histogram is
# smoothed by 2,900 in place of 12.5: all peaks are one flat hill, and its top, the "mode", is the mean of everything. White matter
# becomes 1.4 in place of 1, in a T2 0.6, and another number in each patient, by the share of liquor: what was to make scans alike makes
# them unlike. And it goes by the unit: the same picture in units of 0 to 1 is right, and divided by 10 it is a third number. The method
# "whitestripe" of the same package, which leaves the width to scipy, finds white matter in every unit. The readme recommends kde for T2 and
# FLAIR. Nothing is raised or warned of. (Pull request 88 of its repository, "specify bandwidth during KDE initialization", is about that number.)
# Remedy: the picture divided by its brightest value beforehand, or whitestripe.
#
# Output seen (pictures with grey matter of 600; white matter of 900 in T1 and of 400 in T2, which is what a mode should be, in steps of 50):
#   T1, as scanned: kde 650, whitestripe 900, white matter after kde 1.4
#   T1, 4 times as bright: kde 650, whitestripe 900, white matter after kde 1.4
#   T1, divided by 10: kde 700, whitestripe 900, white matter after kde 1.3
#   T1, 0 to 1: kde 900, whitestripe 900, white matter after kde 1.0
#   T1, more liquor: kde 550, whitestripe 900, white matter after kde 1.6
#   T2, as scanned: kde 700, whitestripe 400, white matter after kde 0.6
#   T2, 0 to 1: kde 400, whitestripe 400, white matter after kde 1.0
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check intensity-normalization==3.0.1 scikit-fuzzy==0.5.0 networkx==3.6.1 \
    nibabel==5.4.2 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import warnings

import numpy as np
from intensity_normalization import KDENormalizer, WhiteStripeNormalizer, create_image
from intensity_normalization.domain.models import Modality

COUNT = 40_000


def brain(liquor, grey, white, share):
    """Values of a brain: liquor's mean and its share, grey and white matter half of what is left each."""
    random = np.random.default_rng(1)
    wet, rest = int(share * COUNT), int((1 - share) * COUNT) // 2
    tissues = random.normal(liquor, 30, wet), random.normal(grey, 35, rest), random.normal(white, 25, rest)
    return np.concatenate(tissues).reshape(-1, 10, 10)


def look(name, picture, factor, modality, white):
    values = picture * factor
    kde, stripe = (
        method(modality=modality).fit(create_image(values)) for method in (KDENormalizer, WhiteStripeNormalizer)
    )
    after = kde.transform(create_image(values)).get_data()
    seen = after[np.abs(picture - white) < 20].mean()
    modes = [round(value / factor / 50) * 50 for value in (kde.tissue_mode, stripe.mean)]
    print(f"{name}: kde {modes[0]}, whitestripe {modes[1]}, white matter after kde {seen:.1f}")


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    t1, t1_old, t2 = brain(300, 600, 900, 0.2), brain(300, 600, 900, 0.4), brain(1500, 600, 400, 0.2)
    look("T1, as scanned", t1, 1, Modality.T1, 900)
    look("T1, 4 times as bright", t1, 4, Modality.T1, 900)
    look("T1, divided by 10", t1, 0.1, Modality.T1, 900)
    look("T1, 0 to 1", t1, 1 / t1.max(), Modality.T1, 900)
    look("T1, more liquor", t1_old, 1, Modality.T1, 900)
    look("T2, as scanned", t2, 1, Modality.T2, 400)
    look("T2, 0 to 1", t2, 1 / t2.max(), Modality.T2, 400)
print("warned:", "; ".join(sorted({str(warning.message) for warning in caught})) or "nothing")
PY
OMP_NUM_THREADS=1 "$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
