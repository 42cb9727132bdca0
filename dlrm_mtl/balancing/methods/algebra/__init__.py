"""What several methods compute."""
