"""The multi-task ranker, from torchrec's own parts."""
