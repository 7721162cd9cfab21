"""The singular value decomposition of a small matrix by hand: every step, exact where it can be."""
