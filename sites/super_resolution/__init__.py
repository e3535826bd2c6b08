"""A trained model applied to a scan in a file."""
