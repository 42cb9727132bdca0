"""How the tasks' probabilities come from the heads: independent, or along a funnel. One file per relation."""
