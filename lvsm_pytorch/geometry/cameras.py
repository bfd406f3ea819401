"""Cameras: pure functions from camera matrices to Plücker rays, and what one does to cameras on the way.

Axes are OpenCV's (x right, y down, z forward), pixel centres lie at +0.5, sizes are (height, width), and every
function takes any leading dimensions, is differentiable, and computes in float32 (or float64) whatever autocast says.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.checks import check_shape
from lvsm_pytorch.errors import fail


class Cameras(NamedTuple):
    """Pinhole cameras, as they travel beside their rays.

    camera_to_world: (... 4 4), OpenCV axes, in the world frame of the rays.
    intrinsics: (... 3 3), in pixels of the image at hand.
    """
    camera_to_world: Tensor
    intrinsics: Tensor


def checked_size(**named: tuple[int, int]) -> tuple[int, int]:
    (name, size), = named.items()

    if len(size) != 2 or min(size) < 1:
        fail(name, 'must be (height, width), both at least 1', tuple(size), 'Pass for example (256, 256).')

    return size


def pose(rotation: Tensor, centre: Tensor) -> Tensor:
    """Camera to world (... 4 4) of a camera-to-world rotation (... 3 3) and a camera centre (... 3)."""
    top = torch.cat((rotation, rearrange(centre, '... i -> ... i 1')), dim = -1)
    bottom = top.new_tensor([0., 0., 0., 1.]).expand(*top.shape[:-2], 1, 4)
    return torch.cat((top, bottom), dim = -2)


def scale_intrinsics(intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Intrinsics (... 3 3) of an image resized from `from_size` to `to_size`, both (height, width). Pixel centres lie at +0.5, so all of x scales alike."""
    check_shape('... 3 3', intrinsics = intrinsics)
    (from_height, from_width), (to_height, to_width) = checked_size(from_size = from_size), checked_size(to_size = to_size)
    scale = intrinsics.new_tensor([to_width / from_width, to_height / from_height, 1.])
    return intrinsics * rearrange(scale, 'i -> i 1')


def crop_intrinsics(intrinsics: Tensor, top: float, left: float) -> Tensor:
    """Intrinsics (... 3 3) of an image that lost `top` rows above and `left` columns on the left (negative: gained), in pixels."""
    check_shape('... 3 3', intrinsics = intrinsics)
    shift = intrinsics.new_tensor([[0., 0., left], [0., 0., top], [0., 0., 0.]])
    return intrinsics - shift


def first_of(*candidates: Tensor) -> Tensor:
    """The first of the vectors (... 3) that is not (almost) zero, for each leading index."""
    *others, chosen = candidates

    for candidate in reversed(others):
        chosen = torch.where(candidate.norm(dim = -1, keepdim = True) > 1e-4, candidate, chosen)

    return chosen
