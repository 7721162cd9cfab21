"""What it means: pure functions from spectra to the published numbers and verdicts."""
