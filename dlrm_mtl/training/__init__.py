"""Training of all arms, control and treatments, by the same loop."""
