"""A plane sweep of colours along the rays of a target view (Collins 1996, "A space-sweep approach to true multi-image matching"), as input of a
network as in Flynn et al. 2016, "DeepStereo: Learning to predict new views from the world's imagery".

Each ray of the target is sampled at a few depths. The points are projected into every input view, which gives the mean colour, its standard
deviation, and the fraction of views that contain the point; at a surface, the colours of the views agree. These are added to the target's tokens.
After the transformer, each pixel is a weighted mean of the colours at all depths and the decoded colour, with weights from the tokens.

Let o be the target's centre, d the unit direction of a ray, and c_v, R_v (camera to world) and K_v the centre, rotation and intrinsics of input
view v. The point of inverse depth w, o + d / w, is at the homogeneous pixel K_v R_vᵀ (d + w (o − c_v)); w = 0 is infinitely far. The formula depends
only on differences of centres, so that moving the world changes nothing. Inverse depths are evenly spaced from 0 on, which makes steps in the
images about equally long.
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
from lvsm_pytorch.lvsm.views import Views, chunks
from lvsm_pytorch.precision import Float32Linear, in_float32

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.encoded import EncodedScene

# channels per pixel of the features of a depth; one linear map for all depths

WIDTH_PER_PIXEL = 2

# BEHIND: points of a smaller homogeneous depth count as behind the camera; OUTSIDE: coordinate for samples outside of an image, in units of half its size

BEHIND = 1e-4
OUTSIDE = 3.

# lower bound of the standard deviation, about a quarter of 1/256, since smaller values are rounding errors

LEAST_SPREAD = 1e-3
TINY = 1e-12

# upper bound of log-weights, against overflow: e^20 already dominates a pixel

MAX_LOG_WEIGHT = 20.


class SweepVolume(NamedTuple):
    """Samples at e depths along the rays of t targets.

    Attributes:
        colors: (b t e c h w), mean colours of the views that contain the point; zero if none does.
        spread: (b t e 1 h w), standard deviation of the colours over views, with variances averaged over channels.
        share: (b t e 1 h w), fraction of views that contain the point, in [0, 1].
    """
    colors: Tensor
    spread: Tensor
    share: Tensor


class PlaneSweep(NoPlaneSweep):
    """Plane sweep of colours, which is added to target tokens and composited with the decoded image.

    Args:
        dim: Width of the model's tokens.
        patch_size: Patch size of the model.
        channels: Channels of the model's images.
        num_depth_planes: Number of planes, e.
        near_plane: Depth of the nearest plane, in units of the world.
        gradient_checkpointing: Recompute the layers between tokens and the volume in the backward pass.
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
        """Returns the input views: images (b v c h w) in [0, 1], camera_to_world (b v 4 4), intrinsics (b v 3 3), and has_rays (b v) bool, False for views to leave out."""
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
        """Composites views as a weighted mean of the decoded image, with weight 1, and the colours of all planes, with weights from the tokens times the fraction of views that contain the point."""
        return self.recomputed(self.composite, image, tokens, targets.volume.colors, targets.volume.share)

    def recomputed(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Calls a function, with gradient checkpointing if that is on."""
        return checkpoint(function, *tensors, use_reentrant = False) if self.gradient_checkpointing and torch.is_grad_enabled() else function(*tensors)

    def to_target_tokens(self, colors: Tensor, spread: Tensor, share: Tensor) -> Tensor:
        """Returns the features (b t h w d) of a volume that are added to target tokens."""
        parts = torch.cat((torch.where(share > 0, colors * 2 - 1, 0.), spread * 4, share * 2 - 1), dim = 3)  # scaled to a similar range
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
    """Samples input views (b v ...) of `PlaneSweep.encode` along unit directions (b t 3 h w) from centres (b t 3). Views are sampled one at a time, which bounds the memory."""
    v, c = images.shape[1:3]
    t, height = directions.shape[1], directions.shape[-2]
    away = rearrange(centers, 'b t i -> b t 1 i') - rearrange(camera_to_world[..., :3, 3], 'b v i -> b 1 v i')
    weight = has_rays.to(images.dtype)
    weight = weight / weight.sum(dim = 1, keepdim = True).clamp(min = 1)
    inverse_depth = torch.linspace(0, 1 / near_plane, num_depth_planes, dtype = away.dtype, device = away.device)

    # an extra channel of ones is the fraction of a sample within the image: it falls to zero at the border, so that views change continuously with cameras

    images = torch.cat((images, torch.ones_like(images[:, :, :1])), dim = 2) * rearrange(weight, 'b v -> b v 1 1 1')
    project = unit_intrinsics(intrinsics, (images.shape[-2], images.shape[-1]), side = 2) @ camera_to_world[..., :3, :3].mT
    total = total_squared = share = images.new_zeros(())

    # an exported graph has no loop over a number of views that is not known

    for some in (slice(None),) if torch.compiler.is_exporting() else chunks(v, 1):
        far = einsum(project[:, some], directions, 'b v i j, b t j h w -> b v t i h w').flatten(-2)
        nearer = einsum(project[:, some], away[:, :, some], inverse_depth, 'b v i j, b t v j, e -> b v t e i')
        pixel = rearrange(far.unsqueeze(3) + nearer.unsqueeze(-1), 'b v t e i n -> (b v) (t e) n i')
        place = (pixel[..., :2] / pixel[..., 2:].clamp(min = BEHIND)).clamp(-OUTSIDE, OUTSIDE)
        place = torch.where(pixel[..., 2:] > BEHIND, place, OUTSIDE)

        sampled = F.grid_sample(images[:, some].flatten(0, 1), place, align_corners = False)
        color, inside = rearrange(sampled, '(b v) c k n -> b v c k n', b = len(images)).split((c, 1), dim = 2)
        squared = color.square() / inside.clamp(min = TINY)
        total, total_squared, share = (each + of_views.sum(dim = 1) for each, of_views in zip((total, total_squared, share), (color, squared, inside), strict = True))

    color = total / share.clamp(min = TINY)
    variance = reduce(total_squared / share.clamp(min = TINY) - color.square(), 'b c k n -> b 1 k n', 'mean')
    spread = variance.clamp(min = LEAST_SPREAD ** 2).sqrt()
    return SweepVolume(*(rearrange(each, 'b c (t e) (h w) -> b t e c h w', t = t, h = height) for each in (color, spread, share)))
