"""The federation on one machine, each party a process of its own."""
