"""Warping of maps of the input views along the rays of target views.

Let o be the target's centre, d the unit direction of a ray, and c_v, R_v (camera to world) and K_v the centre, rotation and intrinsics of input
view v. The point of inverse distance w, o + d / w, is at the homogeneous pixel K_v R_vᵀ (d + w (o − c_v)); w = 0 is infinitely far. The formula
depends only on differences of centres, so that moving the world changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor

from lvsm_pytorch.lvsm.conditioning.base import unit_intrinsics
from lvsm_pytorch.precision import in_float32

# BEHIND: points of a smaller homogeneous depth count as behind the camera; OUTSIDE: coordinate for samples outside of an image, in units of half its size

BEHIND = 1e-4
OUTSIDE = 3.


class Rays(NamedTuple):
    """Rays of target views.

    Attributes:
        origins: Camera centres (b t 3).
        directions: Unit directions (b t 3 h w).
    """
    origins: Tensor
    directions: Tensor


class Projections(NamedTuple):
    """Projections of input views.

    Attributes:
        project: (b v 3 3), K Rᵀ to images of side 2 centred at 0, at any resolution.
        centers: Camera centres (b v 3).
    """
    project: Tensor
    centers: Tensor


@in_float32
def projections(camera_to_world: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Projections:
    """Returns the projections of cameras with poses (b v 4 4) and intrinsics (b v 3 3) in pixels of images of `size` (height, width)."""
    return Projections(unit_intrinsics(intrinsics, size, side = 2) @ camera_to_world[..., :3, :3].mT, camera_to_world[..., :3, 3])


def warp(maps: Tensor, views: Projections, rays: Rays, inverse_distance: Tensor) -> tuple[Tensor, Tensor]:
    """Samples maps of the input views at the points at inverse distances along rays.

    Args:
        maps: Maps (b v c h' w') of the input views, zero beyond their borders.
        views: Projections of the input views.
        rays: Rays of the target views.
        inverse_distance: (b t e h w).

    Returns:
        Warped maps (b v c t e h w), and (b v 1 t e h w), the square root of 1 minus the cosine of the angle between the rays of the target and of the input view to the point.
    """
    grid, cosine = places(*views, *rays, inverse_distance)
    warped = F.grid_sample(maps.flatten(0, 1), rearrange(grid, 'b v t e h w two -> (b v) (t e h) w two').to(maps.dtype), align_corners = False)
    angle = (1 - cosine).clamp(min = 0).add(1e-6).sqrt()
    return rearrange(warped, '(b v) c (t e h) w -> b v c t e h w', b = len(maps), t = inverse_distance.shape[1], e = inverse_distance.shape[2]), rearrange(angle, 'b v t e h w -> b v 1 t e h w')


@in_float32
def places(project: Tensor, centers: Tensor, origins: Tensor, directions: Tensor, inverse_distance: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the coordinates (b v t e h w 2) of the points in images of side 2 centred at 0, and the cosine (b v t e h w) between the rays of the target and of the input view to them."""
    away = rearrange(origins, 'b t i -> b 1 t i') - rearrange(centers, 'b v i -> b v 1 i')
    far = einsum(project, directions, 'b v i j, b t j h w -> b v t i h w')
    near = einsum(project, away, 'b v i j, b v t j -> b v t i')
    inverse = rearrange(inverse_distance, 'b t e h w -> b 1 t e h w')

    x, y, z = (rearrange(far[:, :, :, i], 'b v t h w -> b v t 1 h w') + rearrange(near[..., i], 'b v t -> b v t 1 1 1') * inverse for i in range(3))
    place = (torch.stack((x, y), dim = -1) / z.clamp(min = BEHIND).unsqueeze(-1)).clamp(-OUTSIDE, OUTSIDE)
    place = torch.where((z > BEHIND).unsqueeze(-1), place, OUTSIDE)

    # |d + w a|² = 1 + 2 w d·a + w² a², and its product with d is 1 + w d·a

    along = rearrange(einsum(directions, away, 'b t j h w, b v t j -> b v t h w'), 'b v t h w -> b v t 1 h w') * inverse
    squared = 1 + 2 * along + inverse.square() * rearrange(away.square().sum(dim = -1), 'b v t -> b v t 1 1 1')
    return place, (1 + along) * squared.clamp(min = 1e-8).rsqrt()


@torch.no_grad()
def quantiles(probability: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the quantiles (k + 1/2) / s of a distribution over planes (n e h w), as positions (n s h w) among planes 0 .. e-1, and the planes (n s h w) nearest to them.

    This is inverse transform sampling of a histogram whose bins are centred at the planes (Mildenhall et al. 2020, "NeRF", 5.2).
    """
    p = rearrange(probability, 'n e h w -> n h w e').contiguous()
    reached = p.cumsum(dim = -1)
    shares = (torch.arange(count, dtype = p.dtype, device = p.device) + 0.5) / count * reached[..., -1:]
    plane = torch.searchsorted(reached, shares.contiguous()).clamp(max = p.shape[-1] - 1)
    mass, reached = p.gather(-1, plane), reached.gather(-1, plane)
    position = plane + ((shares - reached + mass) / mass.clamp(min = 1e-6)).clamp(0, 1) - 0.5
    position = rearrange(position.clamp(0, p.shape[-1] - 1), 'n h w s -> n s h w')
    return position, position.nan_to_num().round().long()    # NaN after a run has diverged
