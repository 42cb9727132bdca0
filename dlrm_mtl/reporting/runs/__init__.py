"""Run directories, read and checked; comparisons of several runs, joined."""
