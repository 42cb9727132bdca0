"""The results of a stream: what each day has, what holds over the days, and the report."""
