"""What a model knows of cameras: the paper's way, and others that are plugged in."""
