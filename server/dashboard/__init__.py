"""The coordinator's screen: what a run's folder says, in a browser and for Prometheus. It never shows a scan."""
