"""Metrics of each task with their errors over evaluation rows."""
