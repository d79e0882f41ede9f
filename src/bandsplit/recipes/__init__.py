"""Recipes: all named experiments."""
