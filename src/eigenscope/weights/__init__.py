"""What the singular values of a weight matrix say: pure functions from spectra to numbers and words."""
