"""The same anatomy under two names."""
