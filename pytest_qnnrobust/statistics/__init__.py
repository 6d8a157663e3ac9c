"""The tests and intervals that verdicts rest on."""
