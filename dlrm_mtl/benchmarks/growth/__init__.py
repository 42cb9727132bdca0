"""Cost along tasks, dimension, batch, tables and ranks."""
