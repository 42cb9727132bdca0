"""Trained models after their training: what a checkpoint holds, and that model on the ranks at hand."""
