"""The front door: the command line, the demonstration, simulation, and training without a federation."""
