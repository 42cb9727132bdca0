"""The experiment ``front``: methods by what they gain on average and what they cost a task."""
