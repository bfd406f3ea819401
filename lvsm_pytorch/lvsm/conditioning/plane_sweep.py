"""What input views show along the rays of a new view: a plane sweep (Collins 1996, "A space-sweep approach to true multi-image matching"),
read and chosen from by a network as in Flynn et al. 2016, "DeepStereo: Learning to predict new views from the world's imagery".

A ray of the new view is cut at a few depths. The point there is looked up in every input view, and what matters is their mean colour, how far
they are from each other in it, and how many see the point at all: where a surface is, views agree. Tokens of the new view take this in, and at
the end say for each pixel how much it takes of each depth's colour beside what is rendered.

With o the target's centre, d a ray's unit direction, and input view v at c_v with rotation R_v (camera to world) and intrinsics K_v, the point
of inverse depth w, o + d / w, is seen at the pixel K_v R_vᵀ (d + w (o − c_v)), homogeneous, and w = 0 is what is infinitely far. Only
differences of centres come up, so that moving the world changes nothing. Inverse depths are evenly spread from 0 on, since then steps are about
equally long in the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from torch import Tensor, nn
from torch.nn import Module
from torch.utils.checkpoint import checkpoint

from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.precision import Float32Linear, in_float32

# what a patch shows at a depth is told in so many, by one map for all depths

NUMBERS_A_PIXEL = 2

# what is nearer to the plane of a camera, in pixels of depth 1, is behind it; what lies beside an image is looked up there, in units of half of it

BEHIND = 1e-4
OUTSIDE = 3.

# where views agree, rounding alone is left, which is below a quarter of the 256th part of a colour

LEAST_SPREAD = 1e-3
TINY = 1e-12

# e to the power of it is all but the whole of a pixel

MOST_LOG_WEIGHT = 20.


class SourceViews(NamedTuple):
    """Input views to look up colours in. images: (b v c h w) in [0, 1]. camera_to_world: (b v 4 4). intrinsics: (b v 3 3). is_known: (b v) bool, False for views that are padded or have no ray; None where all are."""
    images: Tensor
    camera_to_world: Tensor
    intrinsics: Tensor
    is_known: Tensor | None


class SweepVolume(NamedTuple):
    """At e depths along the rays of t targets: mean colours (b t e c h w) of the views that see the point, zero where none does;
    their standard deviation (b t e 1 h w), the channels' mean; and the share of views that see it (b t e 1 h w), from 0 to 1.
    """
    colors: Tensor
    spread: Tensor
    share: Tensor


class PlaneSweep(Module):
    """Into tokens of targets what was found, and out of them how much of it is taken.

    dim, patch_size, channels: of the model. depths: e, how many. nearest: of these, in units of the world.
    checkpointing: for gradients, compute what lies between tokens and what was found anew.
    """

    def __init__(self, dim: int, *, patch_size: int, channels: int, depths: int, nearest: float, checkpointing: bool = False):
        super().__init__()
        self.patch_size = patch_size
        self.depths = depths
        self.nearest = nearest
        self.checkpointing = checkpointing
        width = NUMBERS_A_PIXEL * patch_size ** 2
        self.of_depth = Float32Linear(patch_size ** 2 * (channels + 2), width, bias = False)
        self.to_tokens = Float32Linear(depths * width, dim, bias = False)
        self.to_weights = Float32Linear(dim, patch_size ** 2 * depths, bias = False)
        nn.init.normal_(self.of_depth.weight, std = self.of_depth.in_features ** -0.5)

        for linear in (self.to_tokens, self.to_weights):
            nn.init.normal_(linear.weight, std = 0.02)

    def forward(self, photos: SourceViews, target_rays: Tensor, target_cameras: Cameras) -> SweepVolume:
        """target_rays: (b t 6 h w) in the world of the cameras. target_cameras: (b t ...)."""
        found = sweep_volume(*photos, target_rays[:, :, :3], target_cameras.camera_to_world[..., :3, 3], depths = self.depths, nearest = self.nearest)
        return SweepVolume(*(each.to(torch.promote_types(photos.images.dtype, torch.float32)) for each in found))

    def tokens(self, seen: SweepVolume) -> Tensor:
        """(b t h w d), to be added to the tokens of the targets."""
        return self.kept_small(self.read, *seen)

    def composite(self, rendered: Tensor, tokens: Tensor, seen: SweepVolume) -> Tensor:
        """Images (b t c h w): the mean of what is rendered (b t c h w), of weight 1, and of what was found, of weights that final tokens (b t h w d) say, times the share of views that see it."""
        return self.kept_small(self.blend, rendered, tokens, seen.colors, seen.share)

    def kept_small(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        return checkpoint(function, *tensors, use_reentrant = False) if self.checkpointing and torch.is_grad_enabled() else function(*tensors)

    def read(self, colors: Tensor, spread: Tensor, share: Tensor) -> Tensor:
        parts = torch.cat((torch.where(share > 0, colors * 2 - 1, 0.), spread * 4, share * 2 - 1), dim = 3)  # all of about unit size
        patches = rearrange(parts, 'b t e c (h p) (w q) -> b t h w e (p q c)', p = self.patch_size, q = self.patch_size)
        return self.to_tokens(F.gelu(self.of_depth(patches)).flatten(-2))

    def blend(self, rendered: Tensor, tokens: Tensor, colors: Tensor, share: Tensor) -> Tensor:
        weights = rearrange(self.to_weights(tokens), 'b t h w (p q e) -> b t e 1 (h p) (w q)', p = self.patch_size, q = self.patch_size)
        weights = weights.clamp(max = MOST_LOG_WEIGHT).exp() * share
        return (rendered + (weights * colors).sum(dim = 2)) / (1 + weights.sum(dim = 2))


@in_float32
def sweep_volume(images: Tensor, camera_to_world: Tensor, intrinsics: Tensor, is_known: Tensor | None, directions: Tensor, origins: Tensor, *, depths: int, nearest: float) -> SweepVolume:
    """images, cameras, is_known: as `SourceViews`. directions: (b t 3 h w), unit. origins: (b t 3). Views are looked up one after the other, which bounds the memory."""
    b, v, c, *_ = images.shape
    _, t, _, height, _ = directions.shape
    is_known = torch.ones(b, v, dtype = torch.bool, device = images.device) if is_known is None else is_known.to(images.device)

    # of unknown views not even a number that is none may be computed with

    no_pose, no_intrinsics = (torch.eye(n, dtype = images.dtype, device = images.device) for n in (4, 3))
    mask = rearrange(is_known, 'b v -> b v 1 1')
    camera_to_world, intrinsics = torch.where(mask, camera_to_world, no_pose), torch.where(mask, intrinsics, no_intrinsics)

    away = rearrange(origins, 'b t i -> b t 1 i') - rearrange(camera_to_world[..., :3, 3], 'b v i -> b 1 v i')
    weight = is_known.to(images.dtype)
    weight = weight / weight.sum(dim = 1, keepdim = True).clamp(min = 1)
    inverse_depth = torch.linspace(0, 1 / nearest, depths, dtype = away.dtype, device = away.device)

    # a fourth channel says how much of a pixel is within the image: what is looked up falls to zero at its border, so that nothing jumps as cameras move

    images = torch.cat((images, torch.ones_like(images[:, :, :1])), dim = 2) * rearrange(weight, 'b v -> b v 1 1 1')
    project = intrinsics @ camera_to_world[..., :3, :3].mT
    size = images.new_tensor((images.shape[-1], images.shape[-2]))
    total = total_squared = share = images.new_zeros(())

    for view in range(v):
        far = einsum(project[:, view], directions, 'b i j, b t j h w -> b t i h w').flatten(-2)
        nearer = einsum(project[:, view], away[:, :, view], inverse_depth, 'b i j, b t j, e -> b t e i')
        pixel = rearrange(far.unsqueeze(2) + nearer.unsqueeze(-1), 'b t e i n -> b (t e) n i')
        place = (pixel[..., :2] / pixel[..., 2:].clamp(min = BEHIND) / size * 2 - 1).clamp(-OUTSIDE, OUTSIDE)
        place = torch.where(pixel[..., 2:] > BEHIND, place, OUTSIDE)

        color, seen = F.grid_sample(images[:, view], place, align_corners = False).split((c, 1), dim = 1)
        total, total_squared, share = total + color, total_squared + color.square() / seen.clamp(min = TINY), share + seen

    color = total / share.clamp(min = TINY)
    variance = reduce(total_squared / share.clamp(min = TINY) - color.square(), 'b c k n -> b 1 k n', 'mean')
    spread = variance.clamp(min = LEAST_SPREAD ** 2).sqrt()
    return SweepVolume(*(rearrange(each, 'b c (t e) (h w) -> b t e c h w', t = t, h = height) for each in (color, spread, share)))
