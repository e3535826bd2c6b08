"""Reading JSON that others wrote: whatever is wrong with it is one kind of failure."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What `text` says. Raises ValueError for anything that is no JSON, and for one nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError as failure:
        raise ValueError("it is nested too deep") from failure
