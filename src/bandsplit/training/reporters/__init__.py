"""Reporters: the events of a training, and the objects that show them."""
