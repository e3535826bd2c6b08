"""Making pairs: reading, examining and registering two scans, in this process or in several."""
