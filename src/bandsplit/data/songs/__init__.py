"""songs: TODO."""
