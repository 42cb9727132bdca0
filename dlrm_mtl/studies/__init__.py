"""The experiments of the MultiBalance paper, two that it argues from without making them, and its theory measured."""
