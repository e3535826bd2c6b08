"""Everything of Flower's that is not its public API, at the coordinator."""
