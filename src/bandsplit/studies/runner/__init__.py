"""Running a study: processes, states, costs."""
