"""reporters: TODO."""
