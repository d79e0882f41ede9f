"""Local web service: a page for songs to separate and listen to, and the same as a REST API."""
