"""Reporters: the events of a training, and what shows them."""
