"""The `Cameras` class, and functions that move poses and scale and crop intrinsics.

Axes are OpenCV's (x right, y down, z forward), pixel centres lie at +0.5, sizes are (height, width), and every
function takes any leading dimensions, is differentiable, and computes in float32 (or float64), also inside autocast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.checks import check_shape
from lvsm_pytorch.errors import fail


@dataclass(frozen = True, eq = False)
class Cameras:
    """Pinhole cameras. Unpacks into (camera_to_world, intrinsics); indexing selects along the leading dimensions.

    Attributes:
        camera_to_world: (... 4 4), OpenCV axes, in the world frame of the rays.
        intrinsics: (... 3 3), in pixels of the image that they belong to.
    """
    camera_to_world: Tensor
    intrinsics: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.camera_to_world, self.intrinsics))

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def __getitem__(self, index: Any) -> Cameras:
        """Selects cameras by an index, a slice, a mask or a tuple of these, as for tensors. None and ... apply to the leading dimensions."""
        index = index if isinstance(index, tuple) else (index,)
        whole = index if Ellipsis in index else (*index, Ellipsis)
        return self.map(lambda t: t[(*whole, slice(None), slice(None))])

    def map(self, function: Callable[[Tensor], Tensor]) -> Cameras:
        """Applies a function that keeps the last two dimensions to both tensors."""
        return Cameras(function(self.camera_to_world), function(self.intrinsics))

    def to(self, *args: Any, **kwargs: Any) -> Cameras:
        """Moves cameras to another device or dtype, as `Tensor.to`."""
        return self.map(lambda t: t.to(*args, **kwargs))

    def transform(self, similarity: Tensor) -> Cameras:
        """Moves the world of the cameras by a similarity (... 4 4), as `move_poses`."""
        return Cameras(move_poses(similarity, self.camera_to_world), self.intrinsics)

    @staticmethod
    def cat(cameras: Sequence[Cameras], dim: int = 0) -> Cameras:
        """Concatenates cameras along a leading dimension."""
        return Cameras(torch.cat([each.camera_to_world for each in cameras], dim), torch.cat([each.intrinsics for each in cameras], dim))


def move_poses(similarity: Tensor, camera_to_world: Tensor) -> Tensor:
    """Moves poses (... 4 4) by a similarity (4 4) or (... 4 4), whose upper left 3 × 3 is a rotation times a scale. The axes of the poses keep length 1."""
    check_shape('... 4 4', similarity = similarity)
    check_shape('... 4 4', camera_to_world = camera_to_world)
    moved = similarity @ camera_to_world
    scale = similarity[..., :3, :3].norm(dim = -2).mean(dim = -1)[..., None, None]
    return pose(moved[..., :3, :3] / scale, moved[..., :3, 3])


def checked_size(**named: tuple[int, int]) -> tuple[int, int]:
    (name, size), = named.items()

    if len(size) != 2 or min(size) < 1:
        fail(name, 'must be (height, width), both at least 1', tuple(size), 'Pass for example (256, 256).')

    return size


def pose(rotation: Tensor, centre: Tensor) -> Tensor:
    """Returns camera-to-world poses (... 4 4) from rotations (... 3 3) and camera centres (... 3)."""
    top = torch.cat((rotation, rearrange(centre, '... i -> ... i 1')), dim = -1)
    bottom = torch.eye(4, dtype = top.dtype, device = top.device)[3:].expand(*top.shape[:-2], 1, 4)
    return torch.cat((top, bottom), dim = -2)


def scale_intrinsics(intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Scales intrinsics (... 3 3) of an image that is resized from `from_size` to `to_size`, both (height, width). Since pixel centres lie at +0.5, cx scales like x."""
    check_shape('... 3 3', intrinsics = intrinsics)
    (from_height, from_width), (to_height, to_width) = checked_size(from_size = from_size), checked_size(to_size = to_size)
    scale = intrinsics.new_tensor([to_width / from_width, to_height / from_height, 1.])
    return intrinsics * rearrange(scale, 'i -> i 1')


def crop_intrinsics(intrinsics: Tensor, top: float, left: float) -> Tensor:
    """Returns intrinsics (... 3 3) after cropping `top` rows and `left` columns of an image, in pixels; negative values pad."""
    check_shape('... 3 3', intrinsics = intrinsics)
    shift = intrinsics.new_tensor([[0., 0., left], [0., 0., top], [0., 0., 0.]])
    return intrinsics - shift


def first_of(*candidates: Tensor) -> Tensor:
    """Returns the first non-zero vector (... 3) of the candidates, for each leading index."""
    *others, chosen = candidates

    for candidate in reversed(others):
        chosen = torch.where(candidate.norm(dim = -1, keepdim = True) > 1e-4, candidate, chosen)

    return chosen
