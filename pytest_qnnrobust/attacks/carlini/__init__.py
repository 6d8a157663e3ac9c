"""Attacks of Carlini and Wagner (L0, L2, Linf) and EAD (L1), their descents and last steps."""
