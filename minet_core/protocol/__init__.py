"""What crosses between a site and the server."""
