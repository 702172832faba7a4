"""The training loop, phase 1 and phase 2, devices, progress."""
