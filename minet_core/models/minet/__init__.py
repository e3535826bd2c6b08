"""MINet (Feng et al., MICCAI 2021), module by module."""
