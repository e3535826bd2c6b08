"""What a site does with one of the server's messages."""
