"""Train context-vector fixed-point language models and measure how they scale with data."""

__version__ = "0.1.0"
