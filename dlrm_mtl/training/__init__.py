"""The training loop of control and treatment alike, its metrics and its clock."""
