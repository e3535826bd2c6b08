"""The page that an ingest writes for the site: what was taken, what was not, and what the pairs look like."""
