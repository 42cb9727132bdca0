"""Predictions for every row of a split, written to parquet files."""
