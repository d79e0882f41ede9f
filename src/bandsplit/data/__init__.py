"""Data: folders of songs, and the training examples made from them."""
