"""The experiments of the MultiBalance paper, two baselines that it does not measure, and measurements of its theory."""
