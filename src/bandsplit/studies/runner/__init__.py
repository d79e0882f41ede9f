"""Running a study: what its runs cost, training them as processes of their own, scoring what they trained."""
