"""Where this repository lies: for tests that read its pages or start programs from its top."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
