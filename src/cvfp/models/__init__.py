"""Modules: tensors in, tensors out. The recurrence, its fixed-point solve, checkpoints."""
