"""Separation of complete songs with models that see chunks."""
