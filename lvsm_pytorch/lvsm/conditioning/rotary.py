"""Two and two dimensions, rotated by angles of a patch's column or row, so that in an inner product only differences count (Su et al. 2021, "RoFormer")."""

from __future__ import annotations

import torch
from torch import Tensor

# angles fall from 1 radian a patch, by this factor in all

ROTARY_BASE = 100.


def cos_and_sin(height: int, width: int, count: int, like: Tensor) -> Tensor:
    """(h w 4 · count) of patches (h w): cosines, then sines, of so many angles of the column and as many of the row."""
    frequencies = ROTARY_BASE ** (-torch.arange(count, dtype = like.dtype, device = like.device) / count)
    rows, columns = (torch.arange(side, dtype = like.dtype, device = like.device)[:, None] * frequencies for side in (height, width))
    angles = torch.cat((columns.expand(height, -1, -1), rows[:, None].expand(-1, width, -1)), dim = -1)
    return torch.cat((angles.cos(), angles.sin()), dim = -1)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(... d), dimension i with dimension i + d / 2, by angles (... d / 2)."""
    a, b = x.chunk(2, dim = -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim = -1)
