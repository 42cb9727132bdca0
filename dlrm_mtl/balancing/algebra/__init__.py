"""Computations on M numbers, or M x M, that several methods share."""
