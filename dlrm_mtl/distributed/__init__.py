"""Processes, devices, sharding."""
