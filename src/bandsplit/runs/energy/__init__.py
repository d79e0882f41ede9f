"""Energy of a run: meter, card, report."""
