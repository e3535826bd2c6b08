"""Reading JSON that others wrote, or a disk may have damaged: whatever is wrong with it is one kind of failure."""

from __future__ import annotations

import json
from typing import Any

NOT_AS_WRITTEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What Python raises where a file's values are of another kind, range, number or depth than ours are."""


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Parameters
    ----------
    text
        One value; bytes are UTF-8, UTF-16 or UTF-32.

    Returns
    -------
    Any
        Plain values, lists and mappings.

    Raises
    ------
    ValueError
        For anything that is no JSON, and for one nested too deep to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as failure:
        raise ValueError("it is nested too deep") from failure
