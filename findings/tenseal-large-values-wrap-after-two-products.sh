#!/bin/sh
# tenseal 0.3.18: a CKKS ciphertext has less room for its values after each product, and who goes past it gets other numbers. With the
# tutorials' parameters (coeff_mod_bit_sizes 60, 40, 40, 60 and a scale of 2^40) a value may have any size that matters when it is encrypted, and after
# two products it has to stay within 2^19 = 524288, since 20 of the last modulus' 60 bits are left of it; beyond, it wraps to the other end. Sums and a
# mean of weights stay far below. A second moment does not: for a deviation over all hospitals each squares its values (one product)
# and weighs them by its share (two). T1 in seconds is right to six digits; in milliseconds the same squares come out negative, and so does the variance.
# An error is raised where a third product is asked for ("scale out of bounds"), so two look safe; a value that is too large is not looked
# for, and who holds no secret key could not see it. (Issue 566 of SEAL's repository asks about such a number.) Remedy: values near
# 1, or a first modulus that is larger by comparison with the scale.
#
# Output seen (two hospitals' T1 of one tissue, shares of 0.75 and 0.25; decrypted at the end):
#   T1 in s: mean 0.825, mean square 0.68 (right 0.68), variance 0.002 (right 0.002)
#   T1 in ms: mean 825.000, mean square -366075.45 (right 682500.00), variance -1046700.633 (right 1875.000)
#   500000 after 0, 1 and 2 products with 1: 500000, 500000, 500000
#   524000 after 0, 1 and 2 products with 1: 524000, 524000, 524000
#   525000 after 0, 1 and 2 products with 1: 525000, 525000, -523576
#   1048576 after 0, 1 and 2 products with 1: 1048576, 1048576, 1
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check tenseal==0.3.18
cat > "$work/look.py" <<'PY'
import tenseal

keys = tenseal.context(tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 40, 40, 60])
keys.global_scale = 2**40
keys.generate_galois_keys()
SHARES = (0.75, 0.25)


def pooled(values):
    """Mean and mean square, encrypted and plain, of one value per hospital."""
    means, squares = [], []
    for value, share in zip(values, SHARES, strict=True):
        encrypted = tenseal.ckks_vector(keys, [value])
        means.append(encrypted * share)
        squares.append(encrypted * encrypted * share)
    (mean,), (square,) = (means[0] + means[1]).decrypt(), (squares[0] + squares[1]).decrypt()
    plain = sum(share * value**2 for share, value in zip(SHARES, values, strict=True))
    return mean, square, plain


for unit, factor in (("s", 1), ("ms", 1000)):
    mean, square, plain = pooled([0.8 * factor, 0.9 * factor])
    right = plain - (SHARES[0] * 0.8 * factor + SHARES[1] * 0.9 * factor) ** 2
    print(f"T1 in {unit}: mean {mean:.3f}, mean square {square:.2f} (right {plain:.2f}), variance {square - mean**2:.3f} (right {right:.3f})")
for value in (500000, 524000, 525000, 1048576):
    seen = [tenseal.ckks_vector(keys, [value])]
    for _ in range(2):
        seen.append(seen[-1] * 1.0)
    decrypted = ", ".join(f"{one.decrypt()[0]:.0f}" for one in seen)
    print(f"{value} after 0, 1 and 2 products with 1: {decrypted}")
PY
"$work/env/bin/python" "$work/look.py" 2> "$work/log.txt" > "$work/seen.txt" || { tail -5 "$work/log.txt"; exit 1; }
cat "$work/seen.txt"
sed -n 's/^#   //p' "$0" > "$work/expected.txt"
cmp "$work/seen.txt" "$work/expected.txt"
