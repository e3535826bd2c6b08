"""The federation in one process, or on Ray."""
