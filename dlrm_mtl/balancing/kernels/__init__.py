"""The two operations on whole gradients, for each device; and what else depends on one."""
