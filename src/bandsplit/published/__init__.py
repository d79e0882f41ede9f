"""Numbers of the paper, as data that anyone may cite."""
