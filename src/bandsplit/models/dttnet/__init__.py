"""DTTNet: a TFC-TDF U-Net with a dual path at its bottleneck."""
