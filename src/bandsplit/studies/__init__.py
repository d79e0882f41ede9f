"""Studies: plans of many runs, their tables and figures."""
