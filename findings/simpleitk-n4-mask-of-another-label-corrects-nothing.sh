#!/bin/sh
# SimpleITK 2.5.7: N4BiasFieldCorrection with a mask whose voxels are not 1 corrects nothing. The class's documentation says
# "If a UseMaskLabel value is set to false (the default), all non-zero voxels in the MaskImage will be masked"; that is ITK's
# default. SimpleITK's is true, with a MaskLabel of 1 (the setters' texts say so), so a mask of 255, as many programs write, or a
# label of a segmentation has no voxel, and the field is 1 everywhere: the output is the input. Nothing is raised or printed, and
# a pipeline goes on with the shading that it took for removed. Without a mask all voxels count, air too. It is the same by
# the function, which takes no label. mask != 0, or SetUseMaskLabel(False), is the remedy.
#
# Output seen (a cylinder of one tissue, shaded by a factor of 1.6; its coefficient of variation):
#   before: 0.12
#   mask of 1: 0.01, the output is the input: False
#   mask of 2: 0.12, the output is the input: True
#   mask of 255: 0.12, the output is the input: True
#   mask of 255, the function: 0.12, the output is the input: True
#   mask of 255, SetUseMaskLabel(False): 0.01, the output is the input: False
#   mask of 255, log of the field: 0.00 to 0.00
#   default of UseMaskLabel: True, of the class's documentation: false
#   printed by the filter: nothing
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6
cat > "$work/look.py" <<'PY'
import numpy as np
import SimpleITK as sitk

_, row, column = np.mgrid[:24, :32, :32]
tissue = (row - 16) ** 2 + (column - 16) ** 2 < 144
shading = np.exp(0.02 * (column - 16))
noise = np.random.default_rng(0).normal(0, 1, tissue.shape)
values = (np.where(tissue, 100, 0) * shading + noise).clip(0).astype(np.float32)
image = sitk.GetImageFromArray(values)


def mask(label: int) -> sitk.Image:
    return sitk.GetImageFromArray(tissue.astype(np.uint8) * np.uint8(label))


def n4() -> sitk.N4BiasFieldCorrectionImageFilter:
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations([20, 20])
    return correction


def uneven(corrected: np.ndarray) -> float:
    return float(corrected[tissue].std() / corrected[tissue].mean())


def say(name: str, output: sitk.Image) -> None:
    corrected = sitk.GetArrayFromImage(output)
    print(f"{name}: {uneven(corrected):.2f}, the output is the input: {np.array_equal(corrected, values)}")


print(f"before: {uneven(values):.2f}")
for label in (1, 2, 255):
    say(f"mask of {label}", n4().Execute(image, mask(label)))
say("mask of 255, the function", sitk.N4BiasFieldCorrection(image, mask(255)))
every = n4()
every.SetUseMaskLabel(False)
say("mask of 255, SetUseMaskLabel(False)", every.Execute(image, mask(255)))
one = n4()
one.Execute(image, mask(255))
field = sitk.GetArrayFromImage(one.GetLogBiasFieldAsImage(image))
print(f"mask of 255, log of the field: {field.min():.2f} to {field.max():.2f}")
told = " ".join(sitk.N4BiasFieldCorrectionImageFilter.__doc__.split())
documented = "false" if "UseMaskLabel value is set to false (the default)" in told else "other"
print(f"default of UseMaskLabel: {n4().GetUseMaskLabel()}, of the class's documentation: {documented}")
PY
"$work/env/bin/python" "$work/look.py" > "$work/seen.txt" 2> "$work/printed.txt"
if [ -s "$work/printed.txt" ]; then said=$(cat "$work/printed.txt"); else said=nothing; fi
echo "printed by the filter: $said" >> "$work/seen.txt"
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
