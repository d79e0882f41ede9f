"""From segments of songs to training examples."""
