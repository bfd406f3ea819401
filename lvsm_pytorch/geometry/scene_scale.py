"""Estimation of the distance of a scene from its photos, which determines the scale of its world and the depth range of a plane sweep.

The world of a structure-from-motion model has an arbitrary unit, while models are trained in worlds where the nearest surfaces are at a distance of
about 1. For every pixel of a reference view, the other views are compared along its ray (a plane sweep: Collins 1996, "A space-sweep approach to
true multi-image matching") by normalised cross-correlation of small windows. The distance of a pixel is the one with the highest correlation, and
its weight is lower if other distances have a similar one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.checks import check_floating, check_shape
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras, scale_intrinsics
from lvsm_pytorch.geometry.normalization import normalize_poses, unit_of
from lvsm_pytorch.geometry.rays import pixel_grid
from lvsm_pytorch.geometry.view_selection import pairwise_distances

# size of the compared images; side of the windows in pixels; and number and range of distances, log-uniform in units of the median baseline

IMAGE_SIZE = 64
WINDOW = 5
NUM_DISTANCES = 96
DISTANCES = 0.5, 200.

# number of neighbours that a view is compared with, and of the best ones that count, since a surface may be occluded in the others; number of reference views

MAX_NEIGHBORS = 3
BEST_NEIGHBORS = 2
MAX_REFERENCES = 8

# minimum correlation of a match, and minimum variance of grey values in its window; distances whose correlation is within the margin of the best compete with it

MIN_CORRELATION = 0.6
MIN_VARIANCE = 3e-4
MARGIN = 0.1
NOISE = 2e-4

# minimum total weight for an estimate, in unambiguous pixels

MIN_WEIGHT = 5.

# fraction of the matched pixels that may be nearer than the range, and that may be farther

QUANTILE = 0.05

# planes extend beyond the depth range by this fraction of its extent in inverse distance

MARGIN_OF_PLANES = 0.5

# near distance of a scene in the unit that is determined by it

UNIT_OF_NEAR = 0.88

# without an estimate, planes extend from this distance, in the unit of the cameras, to infinity; the default near_plane of a model

NEAR_PLANE = 0.5


class Matches(NamedTuple):
    """Estimated distances of pixels.

    Attributes:
        distances: (n), from the camera centre along the rays of pixels, in units of the world.
        weights: (n), from 0 without a match to 1 for a single matching distance.
    """
    distances: Tensor
    weights: Tensor


class DepthRange(NamedTuple):
    """Near and far distance of a scene from its cameras, in units of its world; far is at least 1.02 × near."""
    near: float
    far: float

    @property
    def unit(self) -> float:
        """Length in the world that becomes 1 if the distance of the scene determines the unit."""
        return self.near / UNIT_OF_NEAR

    def with_margin(self, near: float = MARGIN_OF_PLANES, far: float = MARGIN_OF_PLANES) -> DepthRange:
        """Extends the range for depth planes on both sides, by fractions of its extent in inverse distance, up to infinity."""
        inverse_near, inverse_far = 1 / self.near, 1 / self.far
        span = inverse_near - inverse_far
        least = max(inverse_far - far * span, 0.)
        most = inverse_near + max(near * span, 0.1 * (inverse_near - least))
        return DepthRange(1 / most, 1 / least if least > 0 else math.inf)


class SceneScale(NamedTuple):
    """Unit of length and depth range of a scene.

    Attributes:
        unit: Length in the world that becomes 1.
        planes: Near and far distance of the planes of a plane sweep, in units of the world.
    """
    unit: float
    planes: DepthRange

    def depth_range(self, unit: float) -> Tensor:
        """Returns near and far distance of the planes (2), divided by a length of the world."""
        return torch.tensor(self.planes) / unit


def scene_scale(images: Tensor, cameras: Cameras) -> SceneScale:
    """Estimates the scale of a scene from its input views. Training, rendering and evaluation all use this function.

    Unit and planes are determined by the distance of the scene (`estimate_depth_range`). Without an estimate, the unit is that of the cameras (`normalize_poses`), and planes extend to
    infinity.

    Args:
        images: Input views (v c h w) in [0, 1].
        cameras: Cameras of the input views: camera_to_world (v 4 4) in any world, intrinsics (v 3 3) in pixels of `images`.

    Raises:
        ValueError: If shapes are wrong.
    """
    found = estimate_depth_range(images, cameras)

    if found is not None:
        return SceneScale(found.unit, found.with_margin())

    unit = unit_of(normalize_poses(cameras.camera_to_world.double()).similarity)
    return SceneScale(unit, DepthRange(NEAR_PLANE * unit, math.inf))


def rescaled(cameras: Cameras, unit: float) -> Cameras:
    """Rescales the world of cameras (n ...), so that the length `unit` becomes 1."""
    return cameras.transform(torch.diag(cameras.camera_to_world.new_tensor([1 / unit, 1 / unit, 1 / unit, 1.])))


@torch.no_grad()
def estimate_depth_range(images: Tensor, cameras: Cameras, *, quantile: float = QUANTILE) -> DepthRange | None:
    """Estimates the near and far distance of a scene from its photos.

    Args:
        images: Photos (v c h w) in [0, 1].
        cameras: Cameras of the photos: camera_to_world (v 4 4) in any world, intrinsics (v 3 3) in pixels of `images`.
        quantile: Fraction of the matched pixels that may be nearer than the range, and that may be farther, in [0, 0.5].

    Returns:
        The range, or None if it can't be estimated: from a single photo, from cameras in one place, or from photos that do not match.

    Raises:
        ValueError: If shapes are wrong.
    """
    found = match_distances(images, cameras)

    if found is None or float(found.weights.sum()) < MIN_WEIGHT:
        return None

    order = found.distances.argsort()
    share = found.weights[order].cumsum(dim = 0) / found.weights.sum()
    index = torch.searchsorted(share, share.new_tensor([quantile, 1 - quantile])).clamp(max = len(share) - 1)
    near, far = found.distances[order][index].tolist()
    return DepthRange(near, max(far, 1.02 * near))


@torch.no_grad()
def match_distances(images: Tensor, cameras: Cameras) -> Matches | None:
    """Estimates distances along the rays of all pixels of up to `MAX_REFERENCES` views, at `IMAGE_SIZE`². Returns None without two cameras in different places.

    The arguments are those of `estimate_depth_range`.
    """
    check_floating(images = images)
    sizes = check_shape('v c h w', images = images)
    check_shape('v 4 4', sizes, camera_to_world = cameras.camera_to_world)
    check_shape('v 3 3', sizes, intrinsics = cameras.intrinsics)

    if sizes['v'] == 0:
        fail('images', 'must have at least one photo', 'none', 'Pass the photos of the scene.')

    # in float64, since scenes may be far from the origin of the world

    poses, intrinsics = cameras.camera_to_world.double().cpu(), cameras.intrinsics.double().cpu()
    baselines = pairwise_distances(poses[:, :3, 3])
    rounding = 1e-9 * poses[:, :3, 3].abs().max()
    baselines = torch.where(baselines > rounding, baselines, torch.inf)
    nearest = baselines.amin(dim = 1)
    nearest = nearest[nearest.isfinite()]

    if len(nearest) == 0:
        return None

    grey = F.interpolate(images.float().cpu(), (IMAGE_SIZE, IMAGE_SIZE), mode = 'area').mean(dim = 1, keepdim = True)
    intrinsics = scale_intrinsics(intrinsics, (sizes['h'], sizes['w']), (IMAGE_SIZE, IMAGE_SIZE))
    near, far = (math.log10(distance) for distance in DISTANCES)
    distances = torch.logspace(near, far, NUM_DISTANCES, dtype = torch.float64) * nearest.median()
    references = torch.linspace(0, sizes['v'] - 1, min(sizes['v'], MAX_REFERENCES)).round().long().tolist()
    matches = [match_reference(reference, grey, poses, intrinsics, baselines, distances) for reference in references if baselines[reference].isfinite().any()]
    return Matches(*(torch.cat(each) for each in zip(*matches, strict = True))) if matches else None


def match_reference(reference: int, grey: Tensor, poses: Tensor, intrinsics: Tensor, baselines: Tensor, distances: Tensor) -> Matches:
    """Matches the pixels of one view with its neighbours."""
    neighbors = [index for index in baselines[reference].argsort()[:MAX_NEIGHBORS].tolist() if baselines[reference, index].isfinite()]
    pixels = pixel_grid((IMAGE_SIZE, IMAGE_SIZE), dtype = poses.dtype).flatten(1)
    directions = F.normalize(poses[reference, :3, :3] @ torch.linalg.inv(intrinsics[reference]) @ pixels, dim = 0)

    mean = window_mean(grey[reference:reference + 1])
    variance = (window_mean(grey[reference:reference + 1].square()) - mean.square()).clamp(min = 0)
    scores = []

    for index in neighbors:
        # the point o + s d is at the pixel K Rᵀ (d + (o − c) / s) of the neighbor

        project = intrinsics[index] @ poses[index, :3, :3].mT
        offset = project @ (poses[reference, :3, 3] - poses[index, :3, 3])
        pixel = project @ directions + offset[:, None] / distances[:, None, None]
        place = pixel[:, :2] / pixel[:, 2:].clamp(min = 1e-6) / IMAGE_SIZE * 2 - 1
        is_inside = (pixel[:, 2] > 1e-6) & (place.abs() <= 1).all(dim = 1)

        grid = rearrange(place, 'e two (h w) -> e h w two', h = IMAGE_SIZE).float()
        warped = F.grid_sample(grey[index].expand(len(distances), -1, -1, -1), grid, align_corners = False)
        warped_mean = window_mean(warped)
        covariance = window_mean(warped * grey[reference]) - warped_mean * mean
        warped_variance = (window_mean(warped.square()) - warped_mean.square()).clamp(min = 0)
        correlation = covariance / ((warped_variance + NOISE) * (variance + NOISE)).sqrt()

        # windows do not match if their brightness differs by more than exposure does

        score = correlation - (warped_mean - mean).abs()
        scores.append(torch.where(is_inside, score.flatten(1), -1.))

    score = torch.stack(scores).topk(min(BEST_NEIGHBORS, len(scores)), dim = 0).values.mean(dim = 0)
    best, index = score.max(dim = 0)
    competing = (score > best - MARGIN).sum(dim = 0)
    is_match = (best > MIN_CORRELATION) & (index > 0) & (index < len(distances) - 1) & (variance.flatten() > MIN_VARIANCE)
    return Matches(distances[index], is_match / competing)


def window_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, stride = 1, padding = WINDOW // 2, count_include_pad = False)
