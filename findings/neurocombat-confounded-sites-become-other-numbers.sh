#!/bin/sh
# neuroCombat 0.2.12 (numpy 2.4.6): harmonises what several scanners measured, and preserves covariates, as a diagnosis and age. Where one hospital has
# the controls and the others the patients, diagnosis and hospital cannot be told apart, and there is no answer. The package does not look: it inverts a
# matrix that has no inverse, and whether that fails is a matter of the last bits (so the counts here may be others elsewhere). "LinAlgError: Singular
# matrix" is what its maintainer takes for the sign of it ("usually means that some of the biological features are redundant (perfectly confounded)",
# issue 13 of its repository), and with the diagnosis alone it always came. With age beside it, as nearly every study has it, 24 of 40 studies ended so;
# the other 16 gave numbers without a word, of the right shape, and none of them is right: of features of 50 with a deviation of 1 the worst mean is off
# by 3 at the least, by 22 and more in half of them, and by 10^16 in two. A normalisation behind it hides their size. With patients and controls at
# every site all is right. (2) One missing value of one patient makes every value of everybody nan, though the fit has a branch that leaves such values
# out. Nothing is warned of or printed but "Creating design matrix" and the like. Remedy: numpy.linalg.matrix_rank of sites and covariates before the
# call, by number of columns.
#
# Output seen (three hospitals, 75 people, 40 features of 50 with a deviation of 1; 40 studies each):
#   both at every site, diagnosis and age: refused 0, features' means off by less than 1 in all others
#   controls at one site, diagnosis: refused 40
#   controls at one site, diagnosis and age: some refused, some not, means off by more than 1 in all others
#   rank of sites, diagnosis and age: 4 of 5 columns
#   one value missing: nan 3000 of 3000
#   warned: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check neuroCombat==0.2.12 numpy==2.4.6 pandas==3.1.1
cat > "$work/look.py" <<'PY'
import contextlib
import io
import warnings

import numpy as np
import pandas as pd
from neuroCombat import neuroCombat

SITES = np.repeat(["A", "B", "C"], [20, 25, 30])
SCANNER = {"A": 0.0, "B": 3.0, "C": -2.0}
FEATURES = 40
STUDIES = 40


def study(seed: int, *, confounded: bool) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    values = 50 + rng.normal(0, 1, (FEATURES, SITES.size)) + np.array([SCANNER[site] for site in SITES])
    drawn = rng.choice(["control", "patient"], SITES.size)
    diagnosis = np.where(SITES == "A", "control", "patient") if confounded else drawn
    return values, pd.DataFrame({"site": SITES, "diagnosis": diagnosis, "age": rng.normal(60, 10, SITES.size)})


def harmonised(values: np.ndarray, people: pd.DataFrame, *, age: bool) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        made = neuroCombat(values, people, "site", ["diagnosis"], ["age"] if age else None)
    return made["data"]


def studies(*, confounded: bool, age: bool) -> tuple[int, list[float]]:
    """How many were refused, and of each other one by how much a feature's mean is off at the most."""
    refused, off = 0, []
    for seed in range(STUDIES):
        try:
            made = harmonised(*study(seed, confounded=confounded), age=age)
        except np.linalg.LinAlgError:
            refused += 1
            continue
        off.append(float(np.abs(made.mean(axis=1) - 50).max()))
    return refused, off


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    refused, off = studies(confounded=False, age=True)
    small = "less than 1 in all others" if max(off) < 1 else "more"
    print(f"both at every site, diagnosis and age: refused {refused}, features' means off by {small}")
    print(f"controls at one site, diagnosis: refused {studies(confounded=True, age=False)[0]}")
    refused, off = studies(confounded=True, age=True)
    share = "some refused, some not" if 0 < refused < STUDIES else f"refused {refused}"
    large = "more than 1 in all others" if min(off) > 1 else f"{min(off):.1f} and more"
    print(f"controls at one site, diagnosis and age: {share}, means off by {large}")
    values, people = study(0, confounded=True)
    columns = pd.get_dummies(people["site"]).to_numpy(float).T
    columns = np.vstack([columns, people["diagnosis"] == "patient", people["age"]]).astype(float)
    print(f"rank of sites, diagnosis and age: {np.linalg.matrix_rank(columns)} of {len(columns)} columns")
    values, people = study(0, confounded=False)
    values[0, 0] = np.nan
    missing = np.isnan(harmonised(values, people, age=True))
    print(f"one value missing: nan {missing.sum()} of {missing.size}")
print("warned:", "; ".join(sorted({str(one.message)[:60] for one in told})) or "nothing")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
