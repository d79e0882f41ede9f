"""reports: TODO."""
