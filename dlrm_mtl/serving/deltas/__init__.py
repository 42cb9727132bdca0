"""What changes from one export to the next, and its application."""
