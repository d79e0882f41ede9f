"""Band-Split RNN and its variants."""
