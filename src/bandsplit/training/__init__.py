"""Training runs: the loop and its resumable state."""
