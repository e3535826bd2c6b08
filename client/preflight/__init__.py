"""What is checked before a site starts."""
