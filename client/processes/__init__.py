"""The site's processes, and what they speak through."""
