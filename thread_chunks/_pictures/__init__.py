"""A run of an executor, drawn: what was recorded over time, as a page, and as a trace."""
