"""energy: TODO."""
