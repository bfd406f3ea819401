"""Rotary position embedding (Su et al. 2021, "RoFormer") of a patch's column and row: pairs of dimensions are rotated by angles, so that inner products depend only on differences."""

from __future__ import annotations

import torch
from torch import Tensor

# ratio of the highest frequency, 1 radian per patch, to the lowest

ROTARY_BASE = 100.


def cos_and_sin(height: int, width: int, count: int, like: Tensor) -> Tensor:
    """Returns the cosines, then the sines (h w 4 · count) for patches (h w), each of `count` angles of the column and `count` of the row."""
    frequencies = ROTARY_BASE ** (-torch.arange(count, dtype = like.dtype, device = like.device) / count)
    rows, columns = (torch.arange(side, dtype = like.dtype, device = like.device)[:, None] * frequencies for side in (height, width))
    angles = torch.cat((columns.expand(height, -1, -1), rows[:, None].expand(-1, width, -1)), dim = -1)
    return torch.cat((angles.cos(), angles.sin()), dim = -1)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates dimensions i and i + d / 2 of x (... d) by angles, given by their cosines and sines (... d / 2)."""
    a, b = x.chunk(2, dim = -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim = -1)
