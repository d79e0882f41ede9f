"""Sound: read, write, resample, and the short-time Fourier transform."""
