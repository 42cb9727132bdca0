"""What is seen of a run from outside while it goes on: status.json, Prometheus text, loggers."""
