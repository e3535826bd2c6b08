"""From pairs of slices to a trained model."""
