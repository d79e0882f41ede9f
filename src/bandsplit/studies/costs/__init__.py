"""Costs of systems: counted, measured on this machine, and predicted for their training."""
