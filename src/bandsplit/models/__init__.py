"""The band-split model family."""
