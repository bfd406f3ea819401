"""The two hooks for conditioning on cameras beside their rays; the paper's do nothing.

`CameraEncoding` is around attention, `NoPlaneSweep` around the transformer.
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
    """The paper's: tokens have cameras as Plücker rays in the world, and attention has none.

    A subclass has other rays, encodes the poses of tokens, and transforms queries, keys, values and outputs (b n heads dim_head) of n tokens
    by these encodings (b n e).
    """
    needs_cameras = False
    ray_channels = 6
    dim_head_multiple = 1

    @staticmethod
    def rays(views: Views) -> Tensor:
        """What tokens are made of, (b v ray_channels h w)."""
        return views.rays

    @staticmethod
    def reference_pose(views: Views) -> Tensor | None:
        """The camera to world (b 4 4) that poses of a scene are encoded in, by its input views; None where they are not encoded."""
        return None

    @staticmethod
    def encode_pose(views: Views, reference: Tensor | None, *, patch_size: int, dim_head: int) -> Tensor | None:
        """(b v h w e) in float32, of patches h × w; None where poses are not encoded. Of views without rays, nothing that depends on a camera."""
        return None

    @staticmethod
    def transform_q(queries: Tensor, pose: Any) -> Tensor:
        return queries

    @staticmethod
    def transform_kv(keys: Tensor, values: Tensor, pose: Any) -> tuple[Tensor, Tensor]:
        """What comes out is what is cached."""
        return keys, values

    @staticmethod
    def transform_out(out: Tensor, pose: Any) -> Tensor:
        """The output of attention, before its projection."""
        return out


class NoPlaneSweep(Module):
    """The paper's: target views are rendered from tokens alone. A subclass samples the input views along the rays of targets.

    `encode` runs once a scene, and what it gives is kept in `EncodedScene.source`. `sweep` runs once for target views, and what it gives is
    kept in their `Views.volume`; `enrich` comes before the blocks, `compose` after them.
    """
    needs_cameras = False
    knows_distances = False  # has a depth_loss

    def encode(self, inputs: Views) -> dict[str, Tensor] | None:
        """What targets will sample, by name, of input views (b v ...). Views without rays are left out."""
        return None

    def sweep(self, targets: Views, scene: EncodedScene) -> Any:
        """What there is along the rays of targets (b t ...): any tensors that the next two need."""
        return None

    def enrich(self, tokens: Tensor, targets: Views, scene: EncodedScene) -> Tensor:
        """Tokens of targets (b t h w d), with what was found."""
        return tokens

    def compose(self, image: Tensor, tokens: Tensor, targets: Views, scene: EncodedScene) -> Tensor:
        """Target views (b t c h w), from the decoded views, final tokens (b t h w d), and what was found."""
        return image

    def depth_loss(self, tokens: Tensor, targets: Views, scene: EncodedScene, distances: Tensor) -> Tensor:
        """How far what final tokens (b t h w d) make of distances is off the true ones (b t H W), a scalar."""
        raise NotImplementedError


# what subclasses share. No constant is made on the host, since copying it to a GPU would wait for all that runs there

def unit_intrinsics(intrinsics: Tensor, image_size: tuple[int, int], *, side: float) -> Tensor:
    """Intrinsics (... 3 3) onto an image of this side around 0, of those in pixels of an image of (height, width)."""
    height, width = image_size
    x, y, z = intrinsics.unbind(dim = -2)
    return torch.stack((x * (side / width) - z * (side / 2), y * (side / height) - z * (side / 2), z), dim = -2)


def first_pose(camera_to_world: Tensor, has_rays: Tensor) -> Tensor:
    """The first of poses (b v 4 4) of views that have rays, (b v) bool; the world's where none has. By it, a world far from its origin costs no digits."""
    first = camera_to_world.gather(1, repeat(has_rays.int().argmax(dim = 1), 'b -> b 1 i j', i = 4, j = 4)).squeeze(1)
    world = torch.eye(4, dtype = first.dtype, device = first.device)
    return torch.where(rearrange(has_rays.any(dim = 1), 'b -> b 1 1'), first, world)


def relative_poses(camera_to_world: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Camera to reference: rotations (b v 3 3) and centres (b v 3), of cameras (b v 4 4) and the reference (b 4 4)."""
    to_reference = rearrange(reference[:, :3, :3].mT, 'b i j -> b 1 i j')
    offset = camera_to_world[..., :3, 3] - reference[:, None, :3, 3]  # first of all: what is far is then gone
    return to_reference @ camera_to_world[..., :3, :3], (to_reference @ offset.unsqueeze(-1)).squeeze(-1)


@in_float32
def camera_rays(rays: Tensor, camera_to_world: Tensor) -> Tensor:
    """Directions (b v 3 h w) in the frames of their own cameras (b v 4 4), of Plücker rays (b v 6 h w) of the world.

    In its own frame a camera is at the origin, where moments are zero.
    """
    return einsum(camera_to_world[..., :3, :3], rays[:, :, :3], 'b v i j, b v i h w -> b v j h w')
