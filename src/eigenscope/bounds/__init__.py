"""How far an input can push the output: norms of layers, bounds end to end, and what they promise a sample."""
