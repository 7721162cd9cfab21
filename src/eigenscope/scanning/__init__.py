"""From a checkpoint to the spectrum of every matrix in it."""
