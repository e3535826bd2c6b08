"""What both ends of an admission know: the forms of a site's request and of its kit, and how each is verified."""
