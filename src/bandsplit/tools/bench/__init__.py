"""Benchmarks of speed, each with a reference to compare it with."""
