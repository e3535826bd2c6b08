"""What a scan and a pair must be before they are believed."""
