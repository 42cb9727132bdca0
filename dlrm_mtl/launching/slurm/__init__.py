"""What a job is on Slurm: what TorchX makes of it, and what its script lacks."""
