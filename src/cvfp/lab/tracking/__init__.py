"""Trackers: TensorBoard, Weights & Biases, trackio."""
