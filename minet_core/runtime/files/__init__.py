"""Files that are whole, private and locked."""
