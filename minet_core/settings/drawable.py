"""Whether batches can be drawn at all: told from numbers, before a scan is read and without torch."""

from __future__ import annotations

from minet_core.errors import InvalidSetting, NoScansFound


def require_drawable(n_slices: int, *, scale: int, patch_px: int | None) -> None:
    """Refuse what no batch can be drawn from.

    Parameters
    ----------
    n_slices
        Slices to train on.
    scale
        Enlargement in both directions of the slice.
    patch_px
        Edge of a high-resolution patch, px; None for whole slices.

    Raises
    ------
    NoScansFound
        FM-D205, for no slice.
    InvalidSetting
        FM-C102, for a patch edge that is no multiple of `scale`.
    """
    if n_slices == 0:
        raise NoScansFound("there is nothing to train on", got="0 slices", expected="at least one")
    if patch_px is not None and (patch_px <= 0 or patch_px % scale):
        raise InvalidSetting(
            "patch_px does not fit the scale", got=patch_px, expected=f"a multiple of {scale}, or null"
        )
