"""Demo, doctor and benchmarks."""
