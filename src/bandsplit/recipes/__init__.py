"""Every named training."""
