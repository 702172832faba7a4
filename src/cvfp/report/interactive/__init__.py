"""The main figures of a report as interactive charts, for its page."""
