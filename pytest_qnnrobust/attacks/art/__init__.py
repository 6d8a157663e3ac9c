"""Adversarial Robustness Toolbox: its attacks on our models, and our models as its estimators."""
