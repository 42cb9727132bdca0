"""This project's training loop, and other ones."""
