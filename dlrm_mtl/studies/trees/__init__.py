"""The experiment ``trees``: LightGBM on each task by itself, beside the arms of a comparison."""
