"""What an effect is, with what certainty: intervals, tests, power. Numbers in, numbers out."""
