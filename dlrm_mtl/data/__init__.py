"""Data sets on disk to batches on ranks."""
