"""A comparison's numbers as Markdown tables."""
