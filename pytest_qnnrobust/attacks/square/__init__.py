"""Square Attack in Linf, L2 and L1: random squares, kept where the score falls."""
