"""Measurements of what the paper claims and no test can prove, on trained rankers."""
