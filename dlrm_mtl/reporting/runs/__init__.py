"""Run directories: what they say, checked, and comparisons of several, joined."""
