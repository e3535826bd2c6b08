"""What a site says of itself to those who look after it."""
