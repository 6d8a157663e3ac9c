"""Geometry that attacks share: balls and bounds, input grids, hyperplanes, steepest steps."""
