#!/bin/sh
# intensity-normalization 3.0.1 takes choices that it does not follow. (1) FCMNormalizer divides by a tissue's mean, and its readme gives the tissue as text,
# FCMNormalizer(tissue_type="wm"). The text is compared with members of an Enum, is none of them, and whatever is none of them is white
# matter: "gm" and "csf", and any word, divide by white matter too. normalize_image(..., tissue_type="gm") turns the text into the member, and
# is right, so the same word gives two pictures. (2) With n_clusters other than 3 the tissue's mean is that of the brightest cluster, and the weights by which
# the picture is divided are those of the third: of five clusters "white matter" is what lies in the middle. (3) The command's --n-clusters and --width, which the
# readme has examples of ("whitestripe brain_flair.nii.gz --modality flair --width 0.1"), are parsed and given to nobody: every width
# writes the same picture. Who compares settings finds that none of them matters. Nothing is raised, warned of or printed
# but where the file is. Remedy: TissueType.GM, three clusters, and WhiteStripeNormalizer(width=...) in Python.
#
# Output seen (a picture of liquor 300, grey matter 600 and white matter 900, in steps of 50; what it was divided by):
#   FCMNormalizer, "wm": 900
#   FCMNormalizer, "gm": 900
#   FCMNormalizer, "csf": 900
#   FCMNormalizer, "fat": 900
#   FCMNormalizer, TissueType.GM: 600
#   normalize_image, "gm": 600
#   FCMNormalizer, TissueType.WM, 5 clusters: 600, tissue mean 900
#   command, whitestripe with a width of 0.05 and of 0.2: the same picture
#   WhiteStripeNormalizer with a width of 0.05 and of 0.2: two pictures
#   command, fcm with 3 clusters and with 5: the same picture
#   printed beside where files are: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check intensity-normalization==3.0.1 scikit-fuzzy==0.5.0 networkx==3.6.1 \
    nibabel==5.4.2 scipy==1.17.1 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import contextlib
import io
import pathlib
import sys
import warnings

import nibabel
import numpy as np
from intensity_normalization import FCMNormalizer, WhiteStripeNormalizer, cli, create_image, normalize_image
from intensity_normalization.domain.models import TissueType

WORK = pathlib.Path(sys.argv[1])
random = np.random.default_rng(1)
BRAIN = np.concatenate([random.normal(mean, 20, 10_000) for mean in (300, 600, 900)]).reshape(30, 100, 10).astype(np.float32)


def divisor(normalized):
    return round(float(np.median(BRAIN / normalized.get_data())) / 50) * 50


def by_command(*options):
    sys.argv = ["intensity-normalize", options[0], str(WORK / "brain.nii.gz"), "-o", str(WORK / "out.nii.gz"), *options[1:]]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if cli.main() != 0:
            raise SystemExit("the command failed")
    said.extend(line for line in printed.getvalue().splitlines() if not line.startswith("Normalized image saved to"))
    return nibabel.load(WORK / "out.nii.gz").get_fdata()


def same(one, other):
    return "the same picture" if np.array_equal(one, other) else "two pictures"


said = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    nibabel.save(nibabel.Nifti1Image(BRAIN, np.eye(4)), WORK / "brain.nii.gz")
    picture = create_image(BRAIN)
    for tissue in ("wm", "gm", "csf", "fat"):
        print(f'FCMNormalizer, "{tissue}": {divisor(FCMNormalizer(tissue_type=tissue).fit_transform(picture))}')
    print(f"FCMNormalizer, TissueType.GM: {divisor(FCMNormalizer(tissue_type=TissueType.GM).fit_transform(picture))}")
    print(f'normalize_image, "gm": {divisor(normalize_image(BRAIN, method="fcm", tissue_type="gm"))}')
    np.random.seed(0)  # noqa: NPY002
    five = FCMNormalizer(tissue_type=TissueType.WM, n_clusters=5).fit(picture)
    mean = round(five._tissue_mean / 50) * 50
    print(f"FCMNormalizer, TissueType.WM, 5 clusters: {divisor(five.transform(picture))}, tissue mean {mean}")
    widths = [by_command("whitestripe", "--width", width) for width in ("0.05", "0.2")]
    print(f"command, whitestripe with a width of 0.05 and of 0.2: {same(*widths)}")
    widths = [WhiteStripeNormalizer(width=width).fit_transform(picture).get_data() for width in (0.05, 0.2)]
    print(f"WhiteStripeNormalizer with a width of 0.05 and of 0.2: {same(*widths)}")
    # Clustering begins at random: the same start for both.
    clusters = []
    for count in ("3", "5"):
        np.random.seed(0)  # noqa: NPY002
        clusters.append(by_command("fcm", "--n-clusters", count))
    alike = "the same picture" if np.allclose(*clusters, rtol=1e-2) else "two pictures"
    print(f"command, fcm with 3 clusters and with 5: {alike}")
said += sorted({str(warning.message) for warning in caught})
print("printed beside where files are:", "; ".join(said) or "nothing")
PY
OMP_NUM_THREADS=1 "$work/env/bin/python" "$work/look.py" "$work" > "$work/seen.txt" 2> "$work/errors.txt" || { cat "$work/errors.txt"; exit 1; }
cat "$work/seen.txt" "$work/errors.txt"
test ! -s "$work/errors.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
