"""Perplexity, effective rank and context health: functions of arrays and callables."""
