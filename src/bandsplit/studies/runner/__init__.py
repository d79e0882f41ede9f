"""runner: TODO."""
