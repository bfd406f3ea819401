"""Base classes of the two hooks for camera conditioning beyond rays; the base classes are the paper's, and do nothing.

`CameraEncoding` hooks into attention, `NoPlaneSweep` into the steps before and after the transformer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.nn import Module

from lvsm_pytorch.precision import in_float32

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.encoded import EncodedScene
    from lvsm_pytorch.lvsm.views import Views


class CameraEncoding:
    """Camera encoding of the paper: tokens contain Plücker rays in the world frame, and attention does not use cameras.

    Subclasses may change the rays, encode the poses of tokens, and transform queries, keys, values and outputs (b n heads dim_head) of n tokens
    by these encodings (b n e).
    """
    needs_cameras = False
    ray_channels = 6
    dim_head_multiple = 1

    @staticmethod
    def rays(views: Views) -> Tensor:
        """Returns the rays (b v ray_channels h w) of which tokens are made."""
        return views.rays

    @staticmethod
    def reference_pose(views: Views) -> Tensor | None:
        """Returns the reference pose (b 4 4), camera to world, relative to which the poses of a scene are encoded; None if they are not encoded."""
        return None

    @staticmethod
    def encode_pose(views: Views, reference: Tensor | None, *, patch_size: int, dim_head: int) -> Tensor | None:
        """Returns the pose encodings (b v h w e) of patches h × w in float32; None if poses are not encoded. Those of views without rays do not depend on their cameras."""
        return None

    @staticmethod
    def transform_q(queries: Tensor, pose: Any) -> Tensor:
        return queries

    @staticmethod
    def transform_kv(keys: Tensor, values: Tensor, pose: Any) -> tuple[Tensor, Tensor]:
        """Transforms keys and values. The results are what a key-value cache keeps."""
        return keys, values

    @staticmethod
    def transform_out(out: Tensor, pose: Any) -> Tensor:
        """Transforms the output of attention, before its projection."""
        return out


class NoPlaneSweep(Module):
    """Base class without a plane sweep, as in the paper: target views are decoded from tokens alone. Subclasses sample the input views along the rays of targets.

    `encode` runs once for a scene, and its result is kept in `EncodedScene.source`. `sweep` runs once for target views, and its result is kept in
    their `Views.volume`. `enrich` runs before the blocks, `compose` after them.
    """
    needs_cameras = False
    knows_distances = False  # whether it takes a depth range and has a depth loss

    def encode(self, inputs: Views) -> dict[str, Tensor] | None:
        """Encodes input views (b v ...), and returns the tensors that targets sample, by name. Views without rays are left out."""
        return None

    def sweep(self, targets: Views, scene: EncodedScene) -> Any:
        """Samples the encoded inputs along the rays of targets (b t ...), and returns the tensors that `enrich` and `compose` need."""
        return None

    def enrich(self, tokens: Tensor, targets: Views, scene: EncodedScene) -> Tensor:
        """Adds the samples to the tokens of targets (b t h w d)."""
        return tokens

    def compose(self, image: Tensor, tokens: Tensor, targets: Views, scene: EncodedScene) -> Tensor:
        """Composites target views (b t c h w) from the decoded views `image`, final tokens (b t h w d), and the samples."""
        return image

    def depth_loss(self, tokens: Tensor, targets: Views, scene: EncodedScene, distances: Tensor) -> Tensor:
        """Computes the depth loss, a scalar, of final tokens (b t h w d) given true distances (b t H W)."""
        raise NotImplementedError


# geometry that subclasses share. Constants are created on the device, since copying one from the host would synchronise with a GPU

def unit_intrinsics(intrinsics: Tensor, image_size: tuple[int, int], *, side: float) -> Tensor:
    """Rescales intrinsics (... 3 3) in pixels of an image of (height, width) to coordinates of a square of length `side` centred at 0."""
    height, width = image_size
    x, y, z = intrinsics.unbind(dim = -2)
    return torch.stack((x * (side / width) - z * (side / 2), y * (side / height) - z * (side / 2), z), dim = -2)


def first_pose(camera_to_world: Tensor, has_rays: Tensor) -> Tensor:
    """Returns the pose (b 4 4) of the first view that has rays, from poses (b v 4 4) and a mask (b v) bool; the identity if none has.

    Poses relative to it are exact even if the scene is far from the origin of the world.
    """
    first = camera_to_world.gather(1, repeat(has_rays.int().argmax(dim = 1), 'b -> b 1 i j', i = 4, j = 4)).squeeze(1)
    world = torch.eye(4, dtype = first.dtype, device = first.device)
    return torch.where(rearrange(has_rays.any(dim = 1), 'b -> b 1 1'), first, world)


def relative_poses(camera_to_world: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Returns camera-to-reference rotations (b v 3 3) and centres (b v 3) of cameras (b v 4 4), relative to a reference pose (b 4 4)."""
    to_reference = rearrange(reference[:, :3, :3].mT, 'b i j -> b 1 i j')
    offset = camera_to_world[..., :3, 3] - reference[:, None, :3, 3]  # subtracted first, before rounding, since both may be large
    return to_reference @ camera_to_world[..., :3, :3], (to_reference @ offset.unsqueeze(-1)).squeeze(-1)


@in_float32
def camera_rays(rays: Tensor, camera_to_world: Tensor) -> Tensor:
    """Returns the directions (b v 3 h w) of Plücker rays (b v 6 h w), rotated from the world to the frames of their cameras (b v 4 4).

    Moments are zero in these frames, since each camera is at the origin of its own.
    """
    return einsum(camera_to_world[..., :3, :3], rays[:, :, :3], 'b v i j, b v i h w -> b v j h w')
