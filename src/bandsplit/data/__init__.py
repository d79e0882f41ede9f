"""From a folder of songs to training examples."""
