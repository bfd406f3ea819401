"""Training: the loop, its checkpoints, its validation."""
