"""Training examples made from segments of songs."""
