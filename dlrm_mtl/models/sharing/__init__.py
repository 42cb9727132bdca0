"""What an architecture between the interaction and the heads is, and one file per architecture."""
