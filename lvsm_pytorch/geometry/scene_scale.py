"""How far a scene is from its cameras, from the photos alone: the scale of its world, and where planes of a sweep are placed.

The world of a structure-from-motion model has an arbitrary unit, and a model is trained in worlds where what is near is at a distance of about 1. So for every pixel of a reference view the other views are compared along its ray (a plane sweep: Collins 1996, "A
space-sweep approach to true multi-image matching") by normalised cross-correlation of small windows, the distance where they agree best is
taken, and pixels count by how clearly one distance stands out.
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

# images are compared at this size, in windows of so many pixels, at so many distances, log-uniform in units of the median baseline

IMAGE_SIZE = 64
WINDOW = 5
NUM_DISTANCES = 96
DISTANCES = 0.5, 200.

# views are compared with so many neighbours, and the best of them count: a surface may be hidden from the others

MAX_NEIGHBORS = 3
BEST_NEIGHBORS = 2
MAX_REFERENCES = 8

# a match has at least this correlation and this variance of grey values in its window; distances whose correlation is so near to the best compete with it

MIN_CORRELATION = 0.6
MIN_VARIANCE = 3e-4
MARGIN = 0.1
NOISE = 2e-4

# with less weight than that of so many unambiguous pixels there is no estimate

MIN_WEIGHT = 5.

# share of the matched pixels that may be nearer than the range, and that may be farther

QUANTILE = 0.05

# planes reach beyond the range by this share of its inverse distances

MARGIN_OF_PLANES = 0.5

# where the unit goes by the scene, what is near is at this distance

UNIT_OF_NEAR = 0.88

# where photos do not tell, planes begin here, in units by the cameras, and reach to infinity: the default near_plane of a model

NEAR_PLANE = 0.5


class Matches(NamedTuple):
    """Distances of what pixels show.

    Attributes:
        distances: (n) from the camera centre along the rays of pixels, in units of the world.
        weights: (n), 0 where nothing matches, 1 where one distance alone does.
    """
    distances: Tensor
    weights: Tensor


class DepthRange(NamedTuple):
    """Between which distances from the cameras a scene lies, in units of its world; far is at least 1.02 × near."""
    near: float
    far: float

    @property
    def unit(self) -> float:
        """The length that becomes 1 where the unit goes by how far the scene is."""
        return self.near / UNIT_OF_NEAR

    def with_margin(self, near: float = MARGIN_OF_PLANES, far: float = MARGIN_OF_PLANES) -> DepthRange:
        """Where planes are placed: on each side so many shares of the inverse distances more, up to infinity."""
        inverse_near, inverse_far = 1 / self.near, 1 / self.far
        span = inverse_near - inverse_far
        least = max(inverse_far - far * span, 0.)
        most = inverse_near + max(near * span, 0.1 * (inverse_near - least))
        return DepthRange(1 / most, 1 / least if least > 0 else math.inf)


class SceneScale(NamedTuple):
    """By which a world is scaled, and where planes are placed in it.

    Attributes:
        unit: The length of the world that becomes 1.
        planes: Near and far distance of the planes of a sweep, in units of the world.
    """
    unit: float
    planes: DepthRange

    def depth_range(self, unit: float) -> Tensor:
        """The planes (2), in a unit of length of the world."""
        return torch.tensor(self.planes) / unit


def scene_scale(images: Tensor, cameras: Cameras) -> SceneScale:
    """The scale of a scene, by its input views: the one rule for training, rendering and evaluation.

    Unit and planes go by how far the scene is (`estimate_depth_range`). Where photos do not tell, the unit is that of the cameras (`normalize_poses`), and planes reach to infinity.

    Args:
        images: (v c h w) in [0, 1], the input views.
        cameras: Of the input views: camera_to_world (v 4 4) in any world, intrinsics (v 3 3) in pixels of `images`.

    Raises:
        ValueError: For wrong shapes.
    """
    found = estimate_depth_range(images, cameras)

    if found is not None:
        return SceneScale(found.unit, found.with_margin())

    unit = unit_of(normalize_poses(cameras.camera_to_world.double()).similarity)
    return SceneScale(unit, DepthRange(NEAR_PLANE * unit, math.inf))


def rescaled(cameras: Cameras, unit: float) -> Cameras:
    """Cameras (n ...) in a world where a length is 1."""
    return cameras.transform(torch.diag(cameras.camera_to_world.new_tensor([1 / unit, 1 / unit, 1 / unit, 1.])))


@torch.no_grad()
def estimate_depth_range(images: Tensor, cameras: Cameras, *, quantile: float = QUANTILE) -> DepthRange | None:
    """Between which distances from the cameras the scene lies, by its photos.

    Args:
        images: (v c h w) in [0, 1], the photos.
        cameras: of the photos: camera_to_world (v 4 4) in any world, intrinsics (v 3 3) in pixels of `images`.
        quantile: share of the matched pixels that may be nearer, and that may be farther, from 0 to 0.5.

    Returns:
        The range, or None where photos do not tell: a single one, cameras all in one place, or pictures that do not match.

    Raises:
        ValueError: for wrong shapes.
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
    """Distances along the rays of all pixels of up to `MAX_REFERENCES` views, at `IMAGE_SIZE`². None without two cameras in different places. Arguments: as `estimate_depth_range`."""
    check_floating(images = images)
    sizes = check_shape('v c h w', images = images)
    check_shape('v 4 4', sizes, camera_to_world = cameras.camera_to_world)
    check_shape('v 3 3', sizes, intrinsics = cameras.intrinsics)

    if sizes['v'] == 0:
        fail('images', 'must have at least one photo', 'none', 'Pass the photos of the scene.')

    # in float64, since worlds may be far from their origin

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
    """The pixels of one view, compared with its neighbours."""
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

        # windows whose brightness differs by more than exposure does are no match

        score = correlation - (warped_mean - mean).abs()
        scores.append(torch.where(is_inside, score.flatten(1), -1.))

    score = torch.stack(scores).topk(min(BEST_NEIGHBORS, len(scores)), dim = 0).values.mean(dim = 0)
    best, index = score.max(dim = 0)
    competing = (score > best - MARGIN).sum(dim = 0)
    is_match = (best > MIN_CORRELATION) & (index > 0) & (index < len(distances) - 1) & (variance.flatten() > MIN_VARIANCE)
    return Matches(distances[index], is_match / competing)


def window_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, stride = 1, padding = WINDOW // 2, count_include_pad = False)
