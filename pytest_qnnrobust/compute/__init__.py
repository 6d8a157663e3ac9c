"""Batch sizes, threads and a quiet terminal, shared by all that computes."""
