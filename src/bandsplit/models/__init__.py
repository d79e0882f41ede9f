"""Models: the contract of a family, the families themselves, and files of weights."""
