"""examples: TODO."""
