"""What a run is held to: baseline, thresholds, suppressions, and when a cell may stop."""
