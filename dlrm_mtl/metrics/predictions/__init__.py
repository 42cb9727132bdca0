"""Metrics that need single predictions: of their order, within users, after recalibration."""
