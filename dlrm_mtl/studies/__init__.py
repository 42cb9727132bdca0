"""The experiments of the MultiBalance paper, and two that it argues from without making them."""
