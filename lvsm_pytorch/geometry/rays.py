"""Plücker rays of cameras."""

from __future__ import annotations

import torch
from einops import einsum, rearrange
from torch import Tensor

from lvsm_pytorch.checks import check_floating, check_shape, values_are_free
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import checked_size
from lvsm_pytorch.precision import in_float32

# cameras to rays

def pixel_grid(image_size: tuple[int, int], *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns homogeneous pixel coordinates (x, y, 1) of all pixel centres, which lie at +0.5: (3 h w).

    Args:
        image_size: (height, width) in pixels.
        device: Device of the result.
        dtype: Type of the result.
    """
    height, width = checked_size(image_size = image_size)
    y = torch.arange(height, device = device, dtype = dtype) + 0.5
    x = torch.arange(width, device = device, dtype = dtype) + 0.5
    y, x = torch.meshgrid(y, x, indexing = 'ij')
    return torch.stack((x, y, torch.ones_like(x)))


@in_float32
def plucker_rays(camera_to_world: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Computes the Plücker ray (d, m) through every pixel centre: unit direction d, then moment m = o × d.

    o is the camera centre, d = R K⁻¹ (x, y, 1)ᵀ / |·| (Hartley & Zisserman, "Multiple View Geometry", 6.2).

    Args:
        camera_to_world: (... 4 4), OpenCV axes.
        intrinsics: (... 3 3), in pixels of an image of `image_size`.
        image_size: (height, width).

    Returns:
        (... 6 h w), in the frame and unit of length of the world.

    Raises:
        ValueError: If shapes are wrong, or intrinsics are not invertible.
    """
    check_floating(camera_to_world = camera_to_world, intrinsics = intrinsics)
    check_shape('... 4 4', camera_to_world = camera_to_world)
    check_shape('... 3 3', intrinsics = intrinsics)
    points = pixel_grid(image_size, device = intrinsics.device, dtype = intrinsics.dtype)
    return rays_through(camera_to_world[..., :3, 3], camera_to_world[..., :3, :3], inverse_intrinsics(intrinsics = intrinsics), points)


@in_float32
def to_plucker_rays(intrinsic_rotation: Tensor, extrinsic_rotation: Tensor, translation: Tensor, uniform_points: Tensor) -> Tensor:
    """Computes the Plücker ray (d, m) through every given pixel coordinate, from world-to-camera R and t.

    Args:
        intrinsic_rotation: (... 3 3), the intrinsics K, in pixels.
        extrinsic_rotation: (... 3 3), R of world to camera: x_camera = R x_world + t. R must be orthonormal: its transpose is used as its inverse.
        translation: (... 3), t of world to camera.
        uniform_points: (... 3 h w), homogeneous pixel coordinates, for example `pixel_grid`.

    Returns:
        (... 6 h w), unit direction d = Rᵀ K⁻¹ p / |·|, then moment o × d with o = -Rᵀ t (Zhang et al. 2024, "Cameras as Rays", equation 3 and figure 2).

    Raises:
        ValueError: If shapes are wrong, or K is not invertible.
    """
    check_floating(intrinsic_rotation = intrinsic_rotation, extrinsic_rotation = extrinsic_rotation, translation = translation, uniform_points = uniform_points)
    check_shape('... 3 3', intrinsic_rotation = intrinsic_rotation)
    check_shape('... 3 3', extrinsic_rotation = extrinsic_rotation)
    check_shape('... 3', translation = translation)
    check_shape('... 3 h w', uniform_points = uniform_points)

    rotation = extrinsic_rotation.mT
    origin = -einsum(rotation, translation, '... i j, ... j -> ... i')
    return rays_through(origin, rotation, inverse_intrinsics(intrinsic_rotation = intrinsic_rotation), uniform_points)


def rays_through(origin: Tensor, rotation: Tensor, inverse: Tensor, points: Tensor) -> Tensor:
    """Computes Plücker rays (... 6 h w) from centres (... 3), camera-to-world rotations (... 3 3), K⁻¹ (... 3 3) and homogeneous pixel coordinates (... 3 h w)."""
    direction = einsum(rotation, inverse, points, '... i j, ... j k, ... k h w -> ... i h w')

    # four times as fast as torch's norm along this axis; rsqrt, because MKL's sqrt on CPUs may be off by 3e-4 when several threads call it
    # for the first time

    direction = direction * direction.square().sum(dim = -3, keepdim = True).clamp(min = 1e-24).rsqrt()

    # o × d, written out: nine times as fast as torch's cross product along this axis

    (ox, oy, oz), (dx, dy, dz) = rearrange(origin, '... i -> i ... 1 1'), direction.unbind(dim = -3)
    moment = torch.stack((oy * dz - oz * dy, oz * dx - ox * dz, ox * dy - oy * dx), dim = -3)
    return torch.cat((direction, moment), dim = -3)


def inverse_intrinsics(**named: Tensor) -> Tensor:
    """Returns K⁻¹ (... 3 3) of the named K (... 3 3). Raises ValueError for a singular K, if reading values is free."""
    (name, intrinsics), = named.items()
    inverse, zero_pivot = torch.linalg.inv_ex(intrinsics)

    if values_are_free(intrinsics):
        bad = (zero_pivot != 0) | ~inverse.isfinite().flatten(-2).all(dim = -1)

        if bad.any():
            fail(name, 'must be invertible matrices', f'one that is not, at index {bad.nonzero()[0].tolist()}', 'Intrinsics are [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels.')

    return inverse
