"""CWS-PResUNet: a residual U-Net on subbands that estimates magnitudes and rotations of phases."""
