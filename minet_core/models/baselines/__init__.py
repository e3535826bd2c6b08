"""The methods that MINet is compared with."""
