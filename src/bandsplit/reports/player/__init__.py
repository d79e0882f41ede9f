"""Sample-synchronous player of a song's signals: markup, style and script, which the report and `serve` share."""
