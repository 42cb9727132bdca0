"""What checkpoints hold of arms and of their run, and how arms start from it."""
