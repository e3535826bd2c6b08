"""What is kept of runs, and how they go on."""
