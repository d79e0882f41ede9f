"""TFC-TDF UNet v3 (MDX23C): a U-Net of time-frequency convolutions and transforms along frequency."""
