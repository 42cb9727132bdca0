"""Sentences about a comparison, made from its numbers."""
