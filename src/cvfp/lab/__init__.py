"""Presets, plans and the runner of sweeps."""
