"""Network, transforms, checkpoints, inference and training; the only layer that imports torch."""
