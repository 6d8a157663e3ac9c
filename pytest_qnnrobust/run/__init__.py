"""One run: its models, data, attacks and cells, and what its tests report."""
