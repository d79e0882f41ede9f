"""Layers that families of networks share."""
