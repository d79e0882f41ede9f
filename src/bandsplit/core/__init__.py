"""Foundations of the package: every room uses them, and they import none of the rooms."""
