"""Images and their k-space: transforms, degradation, interpolation, bands."""
