"""Schemas of configs and results, and the files they live in: the language all other layers share."""
