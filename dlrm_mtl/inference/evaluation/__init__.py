"""Evaluation of stored models on the rows of any data set that fits them."""
