"""Which version of the processing made a pair, and which one judged a scan."""

from __future__ import annotations

from importlib import metadata

PROCESSING = 8
"""Raised when reading or registration changes, so that pairs made by the former way are made again."""
JUDGING = 4
"""Raised when other scans are refused than before, while the pairs that were made stay as they are."""
VERSION = f"{PROCESSING}.{JUDGING} {metadata.version('fedminet')}"
"""Of all that judges scans: what another version found is found anew."""
