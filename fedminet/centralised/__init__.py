"""Training without a federation."""
