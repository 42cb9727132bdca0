"""One file per interaction."""
