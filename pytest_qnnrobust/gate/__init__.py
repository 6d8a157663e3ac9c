"""The gate of a run: its baseline, thresholds and suppressions, and when a cell may stop."""
