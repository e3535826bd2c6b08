"""Bringing the reference onto the target's grid, and how far that can be trusted."""
