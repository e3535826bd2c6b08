"""Federated algorithms as values: the server's step over the sites' replies, and what it asks of their training."""
