"""study: TODO."""
