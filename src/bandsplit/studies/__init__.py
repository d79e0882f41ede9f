"""Carrying out a study: what its runs cost, running them as processes of their own, and scoring what they trained."""
