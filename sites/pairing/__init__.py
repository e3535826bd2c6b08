"""Which files are a target and its reference, and whose they are."""
