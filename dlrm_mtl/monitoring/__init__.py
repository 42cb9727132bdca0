"""What leaves a run while it goes on: status.json, Prometheus text, the numbers of loggers, the mirror."""
