"""Balls, bounds and input grids: the geometry that attacks share."""
