"""bsrnn: TODO."""
