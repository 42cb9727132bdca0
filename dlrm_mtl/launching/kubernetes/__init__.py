"""What a job on Kubernetes has beside what TorchX gives it."""
