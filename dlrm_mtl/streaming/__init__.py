"""Training day by day: each day is evaluated, then trained on."""
