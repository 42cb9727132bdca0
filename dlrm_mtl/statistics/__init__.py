"""Intervals, tests and power of effects. Numbers in, numbers out."""
