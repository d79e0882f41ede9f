"""Audio: reading, writing, resampling, and the short-time Fourier transform."""
