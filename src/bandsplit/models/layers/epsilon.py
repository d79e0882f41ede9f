"""The epsilon of the band-split networks' normalisations."""

EPS = 1e-7
"""Epsilon of every normalisation, except inside the dilated stack where stated."""
