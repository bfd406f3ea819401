"""Pure functions of cameras: rays, conventions, normalization, trajectories, choice of views."""
