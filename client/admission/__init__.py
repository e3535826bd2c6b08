"""How a site is admitted: its folder, its keys, its request, the kit it gets back, and its own policy."""
