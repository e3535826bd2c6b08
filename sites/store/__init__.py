"""The store, its cohort and its splits."""
