"""Drift: whether the texts that a model is used on differ from those that it was evaluated on."""
