"""Gray-box attacks that estimate gradients from scores: ZOO and its space of noise, SPSA."""
