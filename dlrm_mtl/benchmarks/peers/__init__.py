"""The layer beside other implementations."""
