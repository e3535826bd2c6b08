"""How results are looked into."""
