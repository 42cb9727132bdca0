"""The all-reduce of a few numbers over the ranks that share a batch."""
