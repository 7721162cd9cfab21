"""Matrices by their leading singular triplets: truncated decompositions with proven errors, principal components."""
