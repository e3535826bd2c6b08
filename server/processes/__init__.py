"""The coordinator's processes, and what keeps others of the machine from them."""
