"""A campaign of faults against real training runs: ``python -m tests.faults``."""
