"""Fetching studies from a PACS, and sending results to one."""
