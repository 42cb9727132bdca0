"""The experiment ``architectures``: the same arms under several sharing architectures."""
