"""tables: TODO."""
