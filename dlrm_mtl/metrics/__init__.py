"""Metrics of each task, with what each bucket of evaluation rows contributes to their error."""
