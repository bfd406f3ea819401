"""A plane sweep of learned features, from coarse to fine, around the transformer.

A small CNN computes feature maps of the input views, once for a scene. For a target view they are warped to planes of inverse distance, at a
quarter of the resolution; where their variance over the views is low, there is a surface (Yao et al. 2018, "MVSNet"). These volume features are
added to the target's tokens. The final tokens attend to the planes: a query for each cell of pixels gives a distribution over distances, from which
a few distances are sampled for each pixel (Mildenhall et al. 2020, "NeRF", hierarchical sampling). The input views are sampled there, and each
pixel attends to these samples (Wang et al. 2021, "IBRNet"). A small CNN refines the image, which removes seams between patches.

Planes lie between a near and a far distance of the scene (`depth_range`), so that for photos taken from afar all planes are around the subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from torch import Tensor, nn
from torch.nn import Module

from lvsm_pytorch.errors import fail
from lvsm_pytorch.lvsm.conditioning.base import NoPlaneSweep
from lvsm_pytorch.lvsm.conditioning.warping import Projections, Rays, projections, quantiles, warp
from lvsm_pytorch.lvsm.views import Views
from lvsm_pytorch.precision import Float32Linear, at_least_float32

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.encoded import EncodedScene

CELL = 4                # height and width of a cell of the coarse level, in pixels
COARSE_FEATURES = 16    # channels of the coarse feature maps, whose variance is pooled in groups
GROUPS = 8
FINE_FEATURES = 5       # channels of the fine feature maps, beside the colours
VOLUME = 12             # channels of a cell of a plane
TOKEN_NUMBERS = 4       # channels to which these are reduced for tokens
CONTEXT = 16            # channels that tokens pass to each pixel
HIDDEN = 16             # channels of a sample
NUM_SAMPLES = 6         # sampled distances of a pixel
VIEW_HIDDEN = 8
REFINED = 24
RESIDUAL_SCALE = 0.1
BLURRED = 4             # height and width of the blurred mean of the input views
TINY = 1e-6


class Volume(NamedTuple):
    """Plane sweep volume along the rays of t targets.

    Attributes:
        features: (b·t c e h w), features of cells h × w at e planes.
        colors: (b·t 3 e h w), mean colours of the input views.
        rays: Rays of the target views.
    """
    features: Tensor
    colors: Tensor
    rays: Rays


def conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride = stride, padding = 1)


def over_cells(channels: int) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, (1, 3, 3), padding = (0, 1, 1))


def over_planes(channels: int, reach: int) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, (2 * reach + 1, 1, 1), padding = (reach, 0, 0))


class FeatureNet(Module):
    """Feature pyramid (Lin et al. 2017) of images (n c h w) in [0, 1], with coarse (n COARSE_FEATURES h/4 w/4) and fine (n FINE_FEATURES h w) maps."""

    def __init__(self, channels: int):
        super().__init__()
        self.stem = nn.Sequential(conv(channels, 16), nn.GELU(), conv(16, 16))
        self.to_half = nn.Sequential(nn.GELU(), conv(16, 32, stride = 2), nn.GELU(), conv(32, 32))
        self.to_quarter = nn.Sequential(nn.GELU(), conv(32, 48, stride = 2), nn.GELU(), conv(48, 48), nn.GELU(), conv(48, 48))
        self.to_coarse = nn.Conv2d(48, COARSE_FEATURES, 1)
        self.lateral = nn.Conv2d(48, 32, 1)
        self.to_fine = nn.Sequential(nn.GELU(), nn.Conv2d(32, 16, 1))
        self.out_fine = nn.Sequential(nn.GELU(), conv(16, FINE_FEATURES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        full = self.stem(images * 2 - 1)
        half = self.to_half(full)
        quarter = self.to_quarter(half)
        half = half + F.interpolate(self.lateral(quarter), scale_factor = 2., mode = 'bilinear')
        return self.to_coarse(quarter), self.out_fine(full + F.interpolate(self.to_fine(half), scale_factor = 2., mode = 'bilinear'))


class FeatureSweep(NoPlaneSweep):
    """Plane sweep of learned features, from coarse to fine.

    Args:
        dim: Width of the model's tokens.
        patch_size: Patch size of the model, a multiple of 4.
        channels: Channels of the model's images.
        num_depth_planes: Number of planes, e.
        near_plane: Distance of the nearest plane in units of the world, for scenes without a depth range; the farthest is then infinite.
        gradient_checkpointing: Accepted for the common interface; not used.
    """
    needs_cameras = True
    knows_distances = True

    def __init__(self, dim: int, *, patch_size: int, channels: int, num_depth_planes: int, near_plane: float, gradient_checkpointing: bool = False):
        super().__init__()

        if patch_size % CELL != 0:
            fail('patch_size', f"must be a multiple of {CELL} with plane_sweep = 'features'", patch_size, 'Use for example 8.')

        self.num_depth_planes = num_depth_planes
        self.near_plane = near_plane
        self.cells = cells = patch_size // CELL  # cells along each side of a patch
        self.features = FeatureNet(channels)

        # from planes to tokens, and back to a distribution over planes

        self.to_volume = nn.Conv3d(GROUPS + 2, VOLUME, 1)
        self.mix = nn.ModuleList([nn.Sequential(nn.GELU(), over_cells(VOLUME), nn.GELU(), over_planes(VOLUME, reach = 2)) for _ in range(2)])
        self.squeeze = nn.Conv3d(VOLUME, TOKEN_NUMBERS, 1)
        self.to_tokens = Float32Linear(num_depth_planes * TOKEN_NUMBERS * cells ** 2, dim, bias = False)
        self.to_query = Float32Linear(dim, cells ** 2 * VOLUME, bias = False)
        self.to_bias = Float32Linear(dim, cells ** 2 * num_depth_planes, bias = False)
        self.to_context = Float32Linear(dim, cells ** 2 * CONTEXT, bias = False)

        # from samples to pixels

        looked_up = FINE_FEATURES + channels
        self.per_sample = nn.Conv3d(2 * looked_up + 4, HIDDEN, 1)
        self.of_context = nn.Conv3d(CONTEXT, HIDDEN, 1, bias = False)
        self.sample_mix = nn.Sequential(nn.GELU(), over_cells(HIDDEN), nn.GELU(), over_planes(HIDDEN, reach = 1))
        self.per_view = nn.Conv3d(looked_up + 2, VIEW_HIDDEN, 1, bias = False)
        self.per_view_base = nn.Conv3d(HIDDEN + looked_up, VIEW_HIDDEN, 1)
        self.to_view_logit = nn.Linear(VIEW_HIDDEN, 1, bias = False)
        self.fallback = nn.Conv2d(CONTEXT + HIDDEN, 3, 1)
        to_residual = conv(REFINED, channels)
        self.refine = nn.Sequential(conv(4 * channels + CONTEXT + HIDDEN + 3, REFINED), nn.GELU(), conv(REFINED, REFINED), nn.GELU(), conv(REFINED, REFINED), nn.GELU(), to_residual)

        for linear in (self.to_tokens, self.to_query, self.to_bias, self.to_context):
            nn.init.normal_(linear.weight, std = 0.02)

        for parameter in to_residual.parameters():
            nn.init.zeros_(parameter)

    # for each scene

    def encode(self, inputs: Views) -> dict[str, Tensor]:
        """Encodes the input views.

        Returns:
            By name: coarse (b v c h/4 w/4) and fine (b v c h w) maps of features, then colours, then 1, all zero for views without rays; project and centers, the projections of the
                views; inverse_range (b 2), the inverse distances of the farthest and the nearest plane; and blurred (b c 4 4), the mean of the views.
        """
        assert inputs.images is not None
        assert inputs.cameras is not None
        images, (b, v) = inputs.images, inputs.images.shape[:2]
        coarse, fine = (at_least_float32(each).unflatten(0, (b, v)) for each in self.features(images.flatten(0, 1)))
        small = F.avg_pool2d(images.flatten(0, 1), CELL).unflatten(0, (b, v))
        is_visible = rearrange(inputs.has_rays, 'b v -> b v 1 1 1').to(images.dtype)
        coarse, fine = (torch.cat((features, colors, torch.ones_like(colors[:, :, :1])), dim = 2) * is_visible for features, colors in ((coarse, small), (fine, images)))
        mean = (images * is_visible).sum(dim = 1) / is_visible.sum(dim = 1).clamp(min = 1)
        project, centers = projections(inputs.cameras.camera_to_world, inputs.cameras.intrinsics, (images.shape[-2], images.shape[-1]))

        near_and_far = torch.cat((project.new_full((b, 1), self.near_plane), project.new_full((b, 1), torch.inf)), dim = 1)
        depth_range = near_and_far if inputs.depth_range is None else inputs.depth_range.to(project)

        return dict(coarse = coarse, fine = fine, project = project, centers = centers, inverse_range = 1 / depth_range.flip(-1), blurred = reduce(mean, 'b c (p h) (q w) -> b c p q', 'mean', p = BLURRED, q = BLURRED))

    # before the blocks

    def sweep(self, targets: Views, scene: EncodedScene) -> Volume:
        assert targets.cameras is not None
        assert scene.source is not None
        source, directions = scene.source, targets.rays[:, :, :3]
        b, t = directions.shape[:2]
        rays = Rays(targets.cameras.camera_to_world[..., :3, 3], directions)
        of_cells = F.normalize(F.avg_pool2d(directions.flatten(0, 1), CELL), dim = 1).unflatten(0, (b, t))

        planes = torch.linspace(0, 1, self.num_depth_planes, dtype = directions.dtype, device = directions.device)
        inverse = rearrange(inverse_distance(source['inverse_range'], planes), 'b e -> b 1 e 1 1').expand(b, t, -1, *of_cells.shape[-2:])
        warped, _ = warp(source['coarse'], Projections(source['project'], source['centers']), rays._replace(directions = of_cells), inverse)

        mean, deviation, visible = pooled(warped, COARSE_FEATURES, groups = GROUPS)
        x, colors = (rearrange(each, 'b c t e h w -> (b t) c e h w') for each in (torch.cat((deviation, visible), dim = 1), mean[:, COARSE_FEATURES:]))
        x = self.to_volume(x)

        for mix in self.mix:
            x = x + mix(x)

        return Volume(at_least_float32(x), colors, rays)

    def enrich(self, tokens: Tensor, targets: Views, scene: EncodedScene) -> Tensor:
        x = at_least_float32(self.squeeze(F.gelu(targets.volume.features)))
        return tokens + self.to_tokens(rearrange(x, '(b t) c e (h p) (w q) -> b t h w (e p q c)', b = len(tokens), p = self.cells, q = self.cells))

    # after the blocks

    def depth_logits(self, tokens: Tensor, volume: Volume) -> Tensor:
        """Returns the logits (n e h w) of the planes for each cell: products of queries from final tokens (n h w d) with the features of the volume."""
        query = rearrange(self.to_query(tokens), 'n h w (p q c) -> n c (h p) (w q)', p = self.cells, q = self.cells)
        bias = rearrange(self.to_bias(tokens), 'n h w (p q e) -> n e (h p) (w q)', p = self.cells, q = self.cells)
        return einsum(query, volume.features, 'n c h w, n c e h w -> n e h w') + bias

    def compose(self, image: Tensor, tokens: Tensor, targets: Views, scene: EncodedScene) -> Tensor:
        """Composites and refines the views.

        Each pixel is a mean, weighted by attention, of its samples of each view, of the expected colour of its cell over the planes, of the decoded image, and of the
        blurred mean of the input views for regions that none of them covers.
        """
        assert scene.source is not None
        volume: Volume = targets.volume
        source, (b, t), size = scene.source, image.shape[:2], image.shape[-2:]
        tokens, image = at_least_float32(tokens).flatten(0, 1), at_least_float32(image).flatten(0, 1)

        def enlarged(x: Tensor) -> Tensor:
            return F.interpolate(x, size = size, mode = 'bilinear')

        probability = self.depth_logits(tokens, volume).softmax(dim = 1)
        smooth = enlarged(einsum(probability, volume.colors, 'n e h w, n c e h w -> n c h w'))
        context = enlarged(rearrange(self.to_context(tokens), 'n h w (p q c) -> n c (h p) (w q)', p = self.cells, q = self.cells))
        probability = enlarged(probability)

        # samples of each pixel

        position, plane = quantiles(probability, NUM_SAMPLES)
        inverse = inverse_distance(source['inverse_range'], position.unflatten(0, (b, t)) / (self.num_depth_planes - 1))
        log_probability = probability.gather(1, plane).clamp(min = TINY).log().unsqueeze(1) * 0.3
        warped, angle = warp(source['fine'], Projections(source['project'], source['centers']), volume.rays, inverse)
        mean, deviation, visible = (rearrange(each, 'b c t s h w -> (b t) c s h w') for each in pooled(warped))
        hidden = self.per_sample(torch.cat((mean, deviation, log_probability, position.unsqueeze(1) / self.num_depth_planes, visible), dim = 1))
        hidden = hidden + self.of_context(context.unsqueeze(2))
        hidden = hidden + self.sample_mix(hidden)

        # attention of each pixel to its samples of each view. Linear maps of inputs that do not depend on the view are computed once

        base = rearrange(self.per_view_base(torch.cat((hidden, mean), dim = 1)), '(b t) c s h w -> b 1 c t (s h) w', b = b)
        of_views = rearrange(torch.cat((warped, angle), dim = 2), 'b v c t s h w -> (b v) c t (s h) w')
        of_views = F.gelu(self.per_view(of_views).unflatten(0, warped.shape[:2]) + base)
        logits = at_least_float32(einsum(of_views, self.to_view_logit.weight[0], 'b v c t n w, c -> b v t n w'))
        logits = rearrange(logits, 'b v t (s h) w -> (b t) v s h w', s = NUM_SAMPLES)
        logits = logits + rearrange(warped[:, :, -1], 'b v t s h w -> (b t) v s h w').clamp(min = TINY).log() + log_probability

        shared = hidden.mean(dim = 2)
        others = at_least_float32(self.fallback(torch.cat((context, shared), dim = 1)))
        weights = torch.cat((logits.flatten(1, 2), others), dim = 1).softmax(dim = 1)
        of_samples, others = weights.tensor_split((weights.shape[1] - 3,), dim = 1)
        blurred = enlarged(source['blurred']).repeat_interleave(t, dim = 0)
        channels = image.shape[1]
        colors = rearrange(warped[:, :, -channels - 1:-1], 'b v c t s h w -> (b t) c (v s) h w')
        composed = einsum(of_samples, colors, 'n k h w, n c k h w -> n c h w')
        composed = composed + others[:, :1] * smooth + others[:, 1:2] * image + others[:, 2:] * blurred

        refined = composed + RESIDUAL_SCALE * at_least_float32(self.refine(torch.cat((composed * 2 - 1, smooth * 2 - 1, image * 2 - 1, context, shared, others, blurred * 2 - 1), dim = 1)))
        refined = refined + (refined.clamp(0, 1) - refined).detach()  # clamped to [0, 1], with straight-through gradients
        return refined.unflatten(0, (b, t))

    def depth_loss(self, tokens: Tensor, targets: Views, scene: EncodedScene, distances: Tensor) -> Tensor:
        """Computes the cross entropy of the distribution over planes of a cell, with the planes at the true distances of its pixels as the target.

        Args:
            tokens: Final tokens (b t h w d).
            targets: Target views.
            scene: Encoded scene.
            distances: (b t H W) from the centres of the target cameras along the rays of pixels; infinite for sky.
        """
        assert scene.source is not None
        logits = self.depth_logits(at_least_float32(tokens).flatten(0, 1), targets.volume)
        far, near = (rearrange(each, 'b -> b 1 1 1') for each in scene.source['inverse_range'].unbind(dim = 1))
        position = ((1 / distances.clamp(min = TINY) - far) / (near - far)).clamp(0, 1).flatten(0, 1) * (self.num_depth_planes - 1)

        # each pixel counts for its two neighbouring planes, by linear interpolation

        before = position.floor().clamp(max = self.num_depth_planes - 2)
        share = position - before
        planes, shares = (rearrange(torch.stack(each), 'two n (h p) (w q) -> n (two p q) h w', p = CELL, q = CELL) for each in ((before, before + 1), (1 - share, share)))
        truth = torch.zeros_like(logits).scatter_add_(1, planes.long(), shares.to(logits.dtype)) / CELL ** 2
        return -(truth * logits.log_softmax(dim = 1)).sum(dim = 1).mean()


def inverse_distance(inverse_range: Tensor, fraction: Tensor) -> Tensor:
    """Interpolates inverse distances for fractions (n) or (b ...), from the farthest plane at 0 to the nearest at 1, of inverse ranges (b 2)."""
    shape = (-1,) + (1,) * max(fraction.ndim - 1, 1)
    far, near = (each.view(shape) for each in inverse_range.unbind(dim = 1))
    return far + (near - far) * fraction


def pooled(warped: Tensor, channels: int | None = None, groups: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Pools warped maps (b v c ...) over the views in which a point is visible; the last channel is the visibility in [0, 1].

    Returns:
        Means (b c-1 ...); standard deviations of the first `channels`, by default of all but the last, averaged in `groups` if given; and (b 2 ...), whether the point is visible in at
            least one view, and in at least two.
    """
    total, squared = warped.sum(dim = 1), warped[:, :, :-1 if channels is None else channels].square().sum(dim = 1)
    count = total[:, -1:]
    mean = total[:, :-1] / count.clamp(min = TINY)
    variance = squared / count.clamp(min = TINY) - mean[:, :squared.shape[1]].square()
    variance = variance if groups is None else variance.unflatten(1, (groups, -1)).mean(dim = 2)
    return mean, variance.clamp(min = TINY).sqrt(), torch.cat((count.clamp(max = 1), (count - 1).clamp(0, 1)), dim = 1)
