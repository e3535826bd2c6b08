"""The record of what was asked and what left."""
