"""Published findings as claims about paired samples, and the verdicts on them."""
