"""How attention sees cameras: what all ways have in common, and the paper's, which is none."""

from __future__ import annotations

from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

from lvsm_pytorch.precision import in_float32


class CameraEncoding:
    """The steps around an attention call where a subclass lets cameras in. This one, the paper's, leaves them out: tokens know of them by their rays alone.

    Tensors are (b n heads dim_head) of n tokens. `at` (b n e) says where those tokens are, as `places` has it.
    """
    dim_head_multiple = 1

    @staticmethod
    def asked(queries: Tensor, at: Any) -> Tensor:
        """What a token asks with."""
        return queries

    @staticmethod
    def known(keys: Tensor, values: Tensor, at: Any) -> tuple[Tensor, Tensor]:
        """What others can know of a token, and what is cached of it."""
        return keys, values

    @staticmethod
    def read(out: Tensor, at: Any) -> Tensor:
        """What attention gave, for the output projection."""
        return out

    @staticmethod
    def places(directions: Tensor, camera_to_world: Tensor, intrinsics: Tensor, reference: Tensor, has_rays: Tensor | None, *, patch_size: int, dim_head: int) -> Tensor:
        """All that attention knows of where tokens are: (b v h w e), of (h w) patches, in float32.

        directions: (b v 3 H W), from `camera_rays`. camera_to_world: (b v 4 4). intrinsics: (b v 3 3), in pixels of images of H × W.
        reference: (b 4 4), from `reference_pose`. has_rays: (b v) bool. Of views without rays nothing is told, whatever their cameras hold.
        """
        raise NotImplementedError


def reference_pose(camera_to_world: Tensor, has_rays: Tensor | None) -> Tensor:
    """Camera to world (b 4 4) that all others are told by: of the first of (b v 4 4) that has rays, (b v) bool; the world where none has. So a world far from its origin costs no digits."""
    if has_rays is None:
        return camera_to_world[:, 0]

    has_rays = has_rays.to(camera_to_world.device)
    first = camera_to_world.gather(1, repeat(has_rays.int().argmax(dim = 1), 'b -> b 1 i j', i = 4, j = 4)).squeeze(1)
    world = torch.eye(4, dtype = first.dtype, device = first.device)
    return torch.where(rearrange(has_rays.any(dim = 1), 'b -> b 1 1'), first, world)


def in_reference(camera_to_world: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Camera to reference: rotations (b v 3 3) and centres (b v 3), of cameras (b v 4 4) and the reference (b 4 4)."""
    to_reference = rearrange(reference[:, :3, :3].mT, 'b i j -> b 1 i j')
    offset = camera_to_world[..., :3, 3] - reference[:, None, :3, 3]  # first of all: what is far is then gone
    return to_reference @ camera_to_world[..., :3, :3], (to_reference @ offset.unsqueeze(-1)).squeeze(-1)


@in_float32
def camera_rays(rays: Tensor, camera_to_world: Tensor, has_rays: Tensor | None = None) -> Tensor:
    """Directions (b v 3 h w) in the frame of their own cameras, of Plücker rays (b v 6 h w) of the world. Where there are no rays they are zero.

    Seen from itself a camera is at the origin, where moments are zero.
    """
    directions = einsum(camera_to_world[..., :3, :3], rays[:, :, :3], 'b v i j, b v i h w -> b v j h w')
    return directions if has_rays is None else torch.where(rearrange(has_rays.to(rays.device), 'b v -> b v 1 1 1'), directions, 0.)
