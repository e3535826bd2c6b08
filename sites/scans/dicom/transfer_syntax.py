"""In which forms pixels are stored, and what decodes them here."""

from __future__ import annotations

import re

from pydicom.config import IGNORE
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import UID

from minet_core.errors import DecoderMissing

NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
"""Implicit and explicit little endian, explicit big endian: read as they are."""
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
