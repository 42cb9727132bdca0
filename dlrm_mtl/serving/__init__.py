"""Models for serving: their export, and what reads it."""
