"""Attacks of the Adversarial Robustness Toolbox on any model."""
