"""A plane sweep along the rays of a target view (Collins 1996, "A space-sweep approach to true multi-image matching"),
for a network as in Flynn et al. 2016, "DeepStereo: Learning to predict new views from the world's imagery".

Each ray of the target is sampled at a few depths. The point there is projected into every input view, and gives their mean colour, its standard
deviation, and the share of views that contain the point: on a surface, views agree. These are added to the target's tokens. At the end each
pixel is a weighted mean of the colours at all depths and the decoded colour, by weights from the tokens.

With o the target's centre, d a ray's unit direction, and input view v at c_v with rotation R_v (camera to world) and intrinsics K_v, the point
of inverse depth w, o + d / w, is at the pixel K_v R_vᵀ (d + w (o − c_v)), homogeneous, and w = 0 is what is infinitely far. Only
differences of centres come up, so that moving the world changes nothing. Inverse depths are evenly spread from 0 on, since then steps are about
equally long in the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lvsm_pytorch.lvsm.conditioning.base import NoPlaneSweep, unit_intrinsics
from lvsm_pytorch.lvsm.views import Views
from lvsm_pytorch.precision import Float32Linear, in_float32

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.encoded import EncodedScene

# channels a pixel of each depth's features, by one map for all depths

WIDTH_PER_PIXEL = 2

# what is nearer to the plane of a camera, in pixels of depth 1, is behind it; what lies beside an image is sampled there, in units of half of it

BEHIND = 1e-4
OUTSIDE = 3.

# where views agree, rounding alone is left, which is below a quarter of the 256th part of a colour

LEAST_SPREAD = 1e-3
TINY = 1e-12

# e to the power of it is all but the whole of a pixel

MAX_LOG_WEIGHT = 20.


class SweepVolume(NamedTuple):
    """At e depths along the rays of t targets: mean colours (b t e c h w) of the views that contain the point, zero where none does;
    their standard deviation (b t e 1 h w), the channels' mean; and the share of views that contain it (b t e 1 h w), from 0 to 1.
    """
    colors: Tensor
    spread: Tensor
    share: Tensor


class PlaneSweep(NoPlaneSweep):
    """Adds the volume to target tokens, and composites it with the decoded image.

    Args:
        dim: Of the model.
        patch_size: Of the model.
        channels: Of the model.
        num_depth_planes: Number of planes, e.
        near_plane: The nearest, in units of the world.
        gradient_checkpointing: For gradients, compute what lies between tokens and the volume anew.
    """
    needs_cameras = True

    def __init__(self, dim: int, *, patch_size: int, channels: int, num_depth_planes: int, near_plane: float, gradient_checkpointing: bool = False):
        super().__init__()
        self.patch_size = patch_size
        self.num_depth_planes = num_depth_planes
        self.near_plane = near_plane
        self.gradient_checkpointing = gradient_checkpointing
        width = WIDTH_PER_PIXEL * patch_size ** 2
        self.of_depth = Float32Linear(patch_size ** 2 * (channels + 2), width, bias = False)
        self.to_tokens = Float32Linear(num_depth_planes * width, dim, bias = False)
        self.to_weights = Float32Linear(dim, patch_size ** 2 * num_depth_planes, bias = False)
        nn.init.normal_(self.of_depth.weight, std = self.of_depth.in_features ** -0.5)

        for linear in (self.to_tokens, self.to_weights):
            nn.init.normal_(linear.weight, std = 0.02)

    def encode(self, inputs: Views) -> dict[str, Tensor]:
        """The views themselves: images (b v c h w) in [0, 1], camera_to_world (b v 4 4), intrinsics (b v 3 3), and has_rays (b v) bool, False for views to leave out."""
        assert inputs.images is not None
        assert inputs.cameras is not None
        camera_to_world, intrinsics = inputs.cameras
        return dict(images = inputs.images, camera_to_world = camera_to_world, intrinsics = intrinsics, has_rays = inputs.has_rays)

    def sweep(self, targets: Views, scene: EncodedScene) -> SweepVolume:
        assert targets.cameras is not None
        assert scene.source is not None
        found = sweep_volume(
            **scene.source, directions = targets.rays[:, :, :3], centers = targets.cameras.camera_to_world[..., :3, 3],
            num_depth_planes = self.num_depth_planes, near_plane = self.near_plane,
        )
        dtype = torch.promote_types(scene.source['images'].dtype, torch.float32)
        return SweepVolume(*(each.to(dtype) for each in found))

    def enrich(self, tokens: Tensor, targets: Views, scene: EncodedScene) -> Tensor:
        return tokens + self.recomputed(self.to_target_tokens, *targets.volume)

    def compose(self, image: Tensor, tokens: Tensor, targets: Views, scene: EncodedScene) -> Tensor:
        """The mean of the image, of weight 1, and of the colours of all planes, of weights from the tokens, times the share of views that contain the point."""
        return self.recomputed(self.composite, image, tokens, targets.volume.colors, targets.volume.share)

    def recomputed(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """For gradients, with checkpointing."""
        return checkpoint(function, *tensors, use_reentrant = False) if self.gradient_checkpointing and torch.is_grad_enabled() else function(*tensors)

    def to_target_tokens(self, colors: Tensor, spread: Tensor, share: Tensor) -> Tensor:
        """(b t h w d) of a volume."""
        parts = torch.cat((torch.where(share > 0, colors * 2 - 1, 0.), spread * 4, share * 2 - 1), dim = 3)  # all of about unit size
        patches = rearrange(parts, 'b t e c (h p) (w q) -> b t h w e (p q c)', p = self.patch_size, q = self.patch_size)
        return self.to_tokens(F.gelu(self.of_depth(patches)).flatten(-2))

    def composite(self, image: Tensor, tokens: Tensor, colors: Tensor, share: Tensor) -> Tensor:
        weights = rearrange(self.to_weights(tokens), 'b t h w (p q e) -> b t e 1 (h p) (w q)', p = self.patch_size, q = self.patch_size)
        weights = weights.clamp(max = MAX_LOG_WEIGHT).exp() * share
        return (image + (weights * colors).sum(dim = 2)) / (1 + weights.sum(dim = 2))


@in_float32
def sweep_volume(
    images: Tensor, camera_to_world: Tensor, intrinsics: Tensor, has_rays: Tensor, directions: Tensor, centers: Tensor, *, num_depth_planes: int, near_plane: float,
) -> SweepVolume:
    """Of input views (b v ...), as `PlaneSweep.encode` has them, along unit directions (b t 3 h w) from centres (b t 3). One view after the other, which bounds the memory."""
    v, c = images.shape[1:3]
    t, height = directions.shape[1], directions.shape[-2]
    away = rearrange(centers, 'b t i -> b t 1 i') - rearrange(camera_to_world[..., :3, 3], 'b v i -> b 1 v i')
    weight = has_rays.to(images.dtype)
    weight = weight / weight.sum(dim = 1, keepdim = True).clamp(min = 1)
    inverse_depth = torch.linspace(0, 1 / near_plane, num_depth_planes, dtype = away.dtype, device = away.device)

    # a fourth channel is the share of a pixel within the image: samples fall to zero at its border, so that nothing jumps as cameras move

    images = torch.cat((images, torch.ones_like(images[:, :, :1])), dim = 2) * rearrange(weight, 'b v -> b v 1 1 1')
    project = unit_intrinsics(intrinsics, (images.shape[-2], images.shape[-1]), side = 2) @ camera_to_world[..., :3, :3].mT
    total = total_squared = share = images.new_zeros(())

    for view in range(v):
        far = einsum(project[:, view], directions, 'b i j, b t j h w -> b t i h w').flatten(-2)
        nearer = einsum(project[:, view], away[:, :, view], inverse_depth, 'b i j, b t j, e -> b t e i')
        pixel = rearrange(far.unsqueeze(2) + nearer.unsqueeze(-1), 'b t e i n -> b (t e) n i')
        place = (pixel[..., :2] / pixel[..., 2:].clamp(min = BEHIND)).clamp(-OUTSIDE, OUTSIDE)
        place = torch.where(pixel[..., 2:] > BEHIND, place, OUTSIDE)

        color, inside = F.grid_sample(images[:, view], place, align_corners = False).split((c, 1), dim = 1)
        total, total_squared, share = total + color, total_squared + color.square() / inside.clamp(min = TINY), share + inside

    color = total / share.clamp(min = TINY)
    variance = reduce(total_squared / share.clamp(min = TINY) - color.square(), 'b c k n -> b 1 k n', 'mean')
    spread = variance.clamp(min = LEAST_SPREAD ** 2).sqrt()
    return SweepVolume(*(rearrange(each, 'b c (t e) (h w) -> b t e c h w', t = t, h = height) for each in (color, spread, share)))
