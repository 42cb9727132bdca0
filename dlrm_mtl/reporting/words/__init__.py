"""What a comparison found, in sentences made from its numbers."""
