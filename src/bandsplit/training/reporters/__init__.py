"""Where the progress of a training is shown."""
