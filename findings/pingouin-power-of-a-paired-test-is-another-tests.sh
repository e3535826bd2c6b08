#!/bin/sh
# pingouin 0.7.0: ttest(x, y, paired=True) gives the power of another test than the one that it made. Its "power" column is "achieved
# power of the test ( = 1 - type II error)", and is power_ttest with contrast="paired", whose effect size is the mean difference over
# the deviation of the differences. It is given the row's Cohen d instead, which is the mean difference over the deviation of the
# patients (d-avg, as compute_effsize's documentation says; "cohen_dz" is the other). Patients mostly differ by
# more than methods do: of twelve patients who gain 0.4 dB the row says p = 0.000004 and a power of 0.25, and the test
# finds such a gain in 1000 of 1000 studies. Where patients are alike and the noise is their own it is the other way, and the power is too
# large. Who plans a study by the row's d (power_ttest) asks twelve times as many patients as it takes, or gives a good
# design up. Nothing is raised or warned of. Remedy: the difference's own effect size, as by ttest(x - y, 0).
#
# Output seen (PSNR of a method and of one that is better by 0.4 dB, patients from one another by 1.2 dB, noise of a pair 0.15 dB):
#   twelve patients: p 0.000004, Cohen d 0.41, power 0.25
#   the differences alone, against 0: p 0.000004, Cohen d 2.43, power 1.00
#   found in studies of twelve patients: 1000 of 1000
#   patients for a power of 0.8, by the paired test's d: 49
#   patients for a power of 0.8, by the differences' d: 4
#   found in studies of five patients: 992 of 1000
#   patients alike to 0.1 dB, noise of a pair 0.6 dB: power 0.46 by the paired test, 0.29 by the differences
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    pingouin==0.7.0 pandas==3.1.1 statsmodels==0.15.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import math
import warnings

import numpy as np
import pingouin
from scipy import stats

rng = np.random.default_rng(0)


def study(n_patients: int, *, patients_db: float, pair_db: float, gain_db: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """PSNR of the one and of the better method, dB, a value each patient."""
    usual = 32 + patients_db * rng.standard_normal(n_patients)
    return usual, usual + gain_db + pair_db * rng.standard_normal(n_patients)


def found(n_patients: int) -> int:
    """In how many of 1000 studies a paired test finds the gain at 5%."""
    pairs = (study(n_patients, patients_db=1.2, pair_db=0.15) for _ in range(1000))
    return sum(bool(stats.ttest_rel(usual, better).pvalue < 0.05) for usual, better in pairs)


def say(name: str, row: object) -> None:
    print(f"{name}: p {row['p_val']:.6f}, Cohen d {row['cohen_d']:.2f}, power {row['power']:.2f}")


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    usual, better = study(12, patients_db=1.2, pair_db=0.15)
    paired = pingouin.ttest(better, usual, paired=True).iloc[0]
    own = pingouin.ttest(better - usual, 0).iloc[0]
    say("twelve patients", paired)
    say("the differences alone, against 0", own)
    print(f"found in studies of twelve patients: {found(12)} of 1000")
    for name, row in (("paired test", paired), ("differences", own)):
        n_patients = pingouin.power_ttest(d=row["cohen_d"], power=0.8, contrast="paired")
        print(f"patients for a power of 0.8, by the {name}'{'s' * (name[-1] != 's')} d: {math.ceil(n_patients)}")
    print(f"found in studies of five patients: {found(5)} of 1000")
    usual, better = study(12, patients_db=0.1, pair_db=0.6)
    paired = pingouin.ttest(better, usual, paired=True).iloc[0]["power"]
    own = pingouin.ttest(better - usual, 0).iloc[0]["power"]
    print(f"patients alike to 0.1 dB, noise of a pair 0.6 dB: power {paired:.2f} by the paired test, {own:.2f} by the differences")
print("warned:", "; ".join(str(one.message) for one in warned) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
