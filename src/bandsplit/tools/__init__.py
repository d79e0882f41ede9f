"""tools: TODO."""
