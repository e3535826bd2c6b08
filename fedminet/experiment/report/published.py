"""The numbers of the paper's tables (Feng et al., MICCAI 2021), as printed. No result of this program is among them."""

from __future__ import annotations

SOURCE = "Feng et al., MICCAI 2021"

_COLUMNS = [(site, scale) for site in ("fastmri", "sms", "umr") for scale in (2, 4)]

_PSNR_DB = {
    "bicubic": (16.571, 13.082, 21.548, 19.508, 21.107, 19.072),
    "edsr": (26.669, 18.363, 36.415, 31.484, 35.394, 31.165),
    "smore": (28.278, 21.813, 38.106, 32.091, 36.547, 31.971),
    "zeng": (28.870, 23.255, 38.164, 32.484, 36.435, 31.859),
    "lyu": (31.769, 29.219, 39.194, 33.667, 37.139, 32.231),
    "minet": (32.069, 30.425, 40.549, 35.032, 37.997, 34.219),
}
_SSIM = {
    "bicubic": (0.459, 0.105, 0.780, 0.706, 0.730, 0.720),
    "edsr": (0.512, 0.208, 0.962, 0.886, 0.965, 0.907),
    "smore": (0.667, 0.476, 0.972, 0.901, 0.972, 0.918),
    "zeng": (0.670, 0.507, 0.973, 0.912, 0.971, 0.921),
    "lyu": (0.709, 0.604, 0.978, 0.931, 0.977, 0.929),
    "minet": (0.718, 0.621, 0.983, 0.948, 0.980, 0.956),
}

TABLE_1: dict[str, dict[tuple[str, int], tuple[float, float]]] = {
    method: dict(zip(_COLUMNS, zip(_PSNR_DB[method], _SSIM[method], strict=True), strict=True))
    for method in _PSNR_DB
}
"""By method, site and scale: PSNR [dB] and SSIM."""

TABLE_2: dict[str, tuple[str, str, str]] = {
    "without-reference": ("0.0037 ± 0.012", "38.5731 ± 0.015", "0.9700 ± 0.009"),
    "without-integration": ("0.0025 ± 0.002", "39.2001 ± 0.108", "0.9776 ± 0.025"),
    "without-attention": ("0.0022 ± 0.236", "39.2654 ± 0.001", "0.9791 ± 0.037"),
    "minet": ("0.0018 ± 0.004", "40.5491 ± 0.014", "0.9830 ± 0.009"),
}
"""By variant, on SMS at 2x: NMSE, PSNR [dB] and SSIM; the paper does not say what follows the ±."""
