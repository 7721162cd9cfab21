"""Layers replaced by two thin ones of low rank, chosen by what they do on data, with the loss measured."""
