"""How a signal and its gradient pass through the depth of a network."""
