"""The wording of reports: jinja2 templates."""
