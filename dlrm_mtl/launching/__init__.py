"""What the TorchX components share. Imported by them alone: training needs no TorchX."""
