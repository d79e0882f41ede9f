"""The commands ``bandsplit study ...``."""
