"""Black-box attacks on decisions alone: Boundary, GeoDA, HopSkipJump, their starts and probes."""
