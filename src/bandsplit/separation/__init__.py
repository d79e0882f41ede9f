"""Separating whole songs with a model that sees chunks."""
