"""Comparisons summarised with intervals and verdicts, and rendered as tables, figures and sentences."""
