"""A model over a volume, and how good the result is."""
