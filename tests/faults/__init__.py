"""Measured faults: what the federation does when replies are hostile, processes are killed and links are cut.

`make faults ARGS=run` runs them at their full size and prints the tables; the tests run a part of each.
"""
