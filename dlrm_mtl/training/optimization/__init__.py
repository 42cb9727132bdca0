"""Optimizers, their schedules, and steps that are skipped."""
