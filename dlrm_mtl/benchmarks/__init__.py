"""Measurements of the project's claims about speed, as ratios of rates taken side by side."""
