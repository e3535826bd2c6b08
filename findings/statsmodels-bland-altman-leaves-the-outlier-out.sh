#!/bin/sh
# statsmodels 0.15.0: graphics.mean_diff_plot ("also known as a Bland-Altman plot"), by which two ways of measuring are compared. (1) The
# axis ends at 1.5 times the limits of agreement, whatever the data, and a patient whose difference lies further out is drawn outside of it: of 30
# patients the one on whom the two disagree is not in the picture, while his difference does widen the limits. (2) The limits are of the standard
# deviation that divides by n, of a sample as if it were all patients; Bland and Altman's are of n - 1. With 5 patients they are 11% too
# narrow. The docstring says "the standard deviation of those differences" (and calls them confidence intervals for the mean,
# which issue 10266 of its repository corrects). Nothing is raised or warned of. Remedy: set_ylim on the axis afterwards,
# and sd_limit = 1.96 * sqrt(n / (n - 1)).
#
# Output seen:
#   30 patients, differences of -1 to 1 and one of 12: the axis ends at 7.0, points outside 1
#   5 patients: limits -2.4 and 3.0, by n - 1 -2.8 and 3.4
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check statsmodels==0.15.0 matplotlib==3.11.2 numpy==2.4.6 scipy==1.17.1
cat > "$work/look.py" <<'PY'
import matplotlib

matplotlib.use("agg")
import numpy as np
from statsmodels.graphics.agreement import mean_diff_plot


def draw(one, other):
    axes = mean_diff_plot(one, other).axes[0]
    _, lower, upper = sorted((line.get_ydata()[0] for line in axes.lines), key=lambda y: abs(y - (one - other).mean()))
    return axes, *sorted((lower, upper))


other = np.linspace(50.0, 60.0, 30)
difference = np.linspace(-1.0, 1.0, 30)
difference[7] = 12.0
axes, _, _ = draw(other + difference, other)
low, high = axes.get_ylim()
drawn = np.asarray(axes.collections[0].get_offsets())[:, 1]
outside = ((drawn < low) | (drawn > high)).sum()
print(f"30 patients, differences of -1 to 1 and one of 12: the axis ends at {high:.1f}, points outside {outside}")

one, other = np.array([10.0, 12.0, 9.0, 15.0, 11.0]), np.array([11.0, 10.0, 9.5, 13.0, 12.0])
_, lower, upper = draw(one, other)
mean, spread = (one - other).mean(), (one - other).std(ddof=1)
print(f"5 patients: limits {lower:.1f} and {upper:.1f}, by n - 1 {mean - 1.96 * spread:.1f} and {mean + 1.96 * spread:.1f}")
PY
HOME="$work" MPLCONFIGDIR="$work" "$work/env/bin/python" -W always "$work/look.py" > "$work/seen.txt" 2> "$work/errors.txt"
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
