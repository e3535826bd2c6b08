"""A back-up of the coordinator's folder, and the way back."""
