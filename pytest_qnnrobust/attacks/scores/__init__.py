"""Black-box attacks that estimate gradients from scores."""
