"""Probabilities of every row of a split, written to parquet files."""
