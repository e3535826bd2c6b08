"""In which forms pixels are stored, and what decodes them here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from pydicom.config import IGNORE
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import UID

from minet_core.errors import DecoderMissing

NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
"""Implicit and explicit little endian, explicit big endian: read as they are."""
LOSSY = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
"""JPEG by its discrete cosine transform, 8 and 12 bits: never without a loss."""
PERHAPS_LOSSY = frozenset(
    {
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.4.93",
        "1.2.840.10008.1.2.4.203",
    }
)
"""JPEG-LS, JPEG 2000, its second part and HTJ2K, each in the syntax that may lose and need not."""
LOST = "its pixels were compressed with loss: fine detail is not as it was measured"
MAY_BE_LOST = "its pixels may have been compressed with loss: its transfer syntax allows it"
MAX_INFLATION = 200
"""Declared bytes over those of a compressed file. The vendor files here have 1.5 and 1.7; air shrinks far more."""


def is_native(transfer_syntax: str) -> bool:
    """Whether pixels are stored as they are.

    Parameters
    ----------
    transfer_syntax
        Its UID.

    Returns
    -------
    bool
        False for a compressed one and for one that is not known.
    """
    return transfer_syntax in NATIVE


def loss_of(transfer_syntax: str, *, flag: Any, ratio: Any) -> str | None:
    """What is to be said of a loss by compression.

    Parameters
    ----------
    transfer_syntax
        Of the pixels as they are now.
    flag
        LossyImageCompression; "01" stays when an object is decompressed.
    ratio
        LossyImageCompressionRatio: one for each compression, the last one counts; what is no number is not said.

    Returns
    -------
    str | None
        None where nothing speaks for a loss. "00" is not believed against a syntax: writers leave it as it was.

    References
    ----------
    DICOM PS3.3, C.7.6.1.1.5.
    """
    if str(flag or "").strip() == "01" or transfer_syntax in LOSSY:
        last = _last_ratio(ratio)
        return LOST if last is None else f"{LOST} (ratio {last:g})"
    return MAY_BE_LOST if transfer_syntax in PERHAPS_LOSSY else None


def _last_ratio(ratio: Any) -> float | None:
    """None where there is none, or no number: it is for people, and no reason to refuse pixels that can be read."""
    several = ratio if isinstance(ratio, Sequence) and not isinstance(ratio, str) else [ratio]
    try:
        found = float(several[-1])
    except (IndexError, TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def require_decoder(transfer_syntax: str, *, name: str) -> None:
    """Refuse what nothing here decodes, and say what would.

    Parameters
    ----------
    transfer_syntax
        Its UID.
    name
        The file's, for the message.

    Raises
    ------
    DecoderMissing
        FM-D214: no decoder of the syntax is installed, or none exists.
    """
    if is_native(transfer_syntax):
        return
    decoder = _decoder_of(transfer_syntax)
    if decoder is None:
        raise DecoderMissing(
            f"{name} is stored in a form that nothing here decodes",
            got=_name_of(transfer_syntax),
            expected="uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000",
            action="Export it as Explicit VR Little Endian",
        )
    if not decoder.is_available:
        raise DecoderMissing(
            f"{name} is compressed, and its decoder is not installed",
            got=_name_of(transfer_syntax),
            expected=" or ".join(decoder.missing_dependencies),
            action="Install python-gdcm, or export the series as Explicit VR Little Endian",
        )


def _decoder_of(transfer_syntax: str) -> Decoder | None:
    if re.fullmatch(r"[0-9.]{1,64}", transfer_syntax) is None:  # pydicom would warn, with the text in it
        return None
    try:
        return get_decoder(UID(transfer_syntax, IGNORE))
    except NotImplementedError:  # pydicom's own word for a syntax that it has no decoder for
        return None


def _name_of(transfer_syntax: str) -> str:
    known = UID(transfer_syntax, IGNORE).name
    return known if known != transfer_syntax else "a transfer syntax of no standard"
