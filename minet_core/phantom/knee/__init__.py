"""The knee."""
