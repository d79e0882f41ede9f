"""Speed, beside the floor it is compared to."""
