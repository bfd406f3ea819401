"""Conversions between OpenCV's camera convention and those of OpenGL and COLMAP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import einsum, repeat
from torch import Tensor

from lvsm_pytorch.checks import check_shape
from lvsm_pytorch.geometry.cameras import pose
from lvsm_pytorch.precision import in_float32

# conventions

def opengl_to_opencv(camera_to_world: Tensor) -> Tensor:
    """Converts camera-to-world poses (... 4 4) from OpenGL axes (x right, y up, z back; also Blender's and nerfstudio's) to OpenCV axes."""
    check_shape('... 4 4', camera_to_world = camera_to_world)
    return camera_to_world * camera_to_world.new_tensor([1., -1., -1., 1.])


def opencv_to_opengl(camera_to_world: Tensor) -> Tensor:
    """Converts camera-to-world poses (... 4 4) from OpenCV axes to OpenGL axes (also Blender's and nerfstudio's); inverse of `opengl_to_opencv`."""
    return opengl_to_opencv(camera_to_world)  # flips the signs of two axes, which is its own inverse


@in_float32
def colmap_to_opencv(quaternion: Tensor, translation: Tensor) -> Tensor:
    """Converts COLMAP's world-to-camera poses to camera-to-world poses (... 4 4).

    Args:
        quaternion: (... 4), w x y z, of any length except 0.
        translation: (... 3).
    """
    check_shape('... 4', quaternion = quaternion)
    check_shape('... 3', translation = translation)
    rotation = quaternion_to_rotation(quaternion).mT
    return pose(rotation, -einsum(rotation, translation, '... i j, ... j -> ... i'))


@in_float32
def opencv_to_colmap(camera_to_world: Tensor) -> tuple[Tensor, Tensor]:
    """Converts camera-to-world poses (... 4 4) to COLMAP's world-to-camera poses: quaternion (... 4), w x y z with w >= 0, and translation (... 3)."""
    check_shape('... 4 4', camera_to_world = camera_to_world)
    rotation = camera_to_world[..., :3, :3].mT
    return rotation_to_quaternion(rotation), -einsum(rotation, camera_to_world[..., :3, 3], '... i j, ... j -> ... i')


def quaternion_to_rotation(quaternion: Tensor) -> Tensor:
    """Converts quaternions (... 4), w x y z, of any length except 0, to rotation matrices (... 3 3)."""
    w, x, y, z = F.normalize(quaternion, dim = -1).unbind(dim = -1)
    return torch.stack((
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ), dim = -1).unflatten(-1, (3, 3))


def rotation_to_quaternion(rotation: Tensor) -> Tensor:
    """Converts rotation matrices (... 3 3) to quaternions (... 4), w x y z with w >= 0.

    The outer product 4 q qᵀ is linear in the entries of the matrix; its row with the largest diagonal entry, normalised,
    is q without cancellation (Shepperd 1978, "Quaternion from rotation matrix").
    """
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]

    outer = torch.stack((
        1 + xx + yy + zz, wx, wy, wz,
        wx, 1 + xx - yy - zz, xy, xz,
        wy, xy, 1 - xx + yy - zz, yz,
        wz, xz, yz, 1 - xx - yy + zz,
    ), dim = -1).unflatten(-1, (4, 4))

    largest = outer.diagonal(dim1 = -2, dim2 = -1).argmax(dim = -1)
    row = outer.gather(-2, repeat(largest, '... -> ... 1 four', four = 4)).squeeze(-2)
    quaternion = F.normalize(row, dim = -1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
