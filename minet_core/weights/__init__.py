"""Weights: their manifest, their bytes, and what an update must look like."""
