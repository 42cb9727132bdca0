"""Measurements of speed, as ratios of rates measured side by side."""
