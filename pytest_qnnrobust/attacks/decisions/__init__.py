"""Black-box attacks that see decisions alone."""
