"""Where node and trainer tell of themselves, in the site's folder, for `fedminet site status`.

Where they are two containers, each writes into its own and reads the other's. Imports neither torch nor Flower.
"""

from __future__ import annotations

from pathlib import PurePath

NODE_NOTES = PurePath("status", "node")
TRAINER_NOTES = PurePath("status", "trainer")
