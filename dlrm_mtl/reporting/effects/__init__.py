"""Effects of arms: of one seed, over seeds, and the verdicts on them."""
