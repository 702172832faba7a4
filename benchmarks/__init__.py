"""How far from the definitions, and from the machine's limits, the fast paths are: `python -m benchmarks`."""
