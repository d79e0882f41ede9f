"""KUIELab-MDX-Net: a TFC-TDF U-Net (v2) from the spectrogram of the mixture to that of a target."""
