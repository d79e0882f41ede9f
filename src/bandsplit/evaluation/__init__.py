"""Metrics, scores and their comparison."""
