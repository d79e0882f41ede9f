"""pretrained: TODO."""
