"""Measurements on this machine: `fedminet bench ...`."""
