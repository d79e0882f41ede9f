"""A run: its configuration, folder, record and energy."""
