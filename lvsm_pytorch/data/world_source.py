"""Training samples of procedural worlds, with realistic choices of views and the small pose errors of real data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Generator, Tensor

from lvsm_pytorch.data.images import as_size
from lvsm_pytorch.data.shared_results import SharedResults
from lvsm_pytorch.data.sources import Batch, Source, middle_cameras, middle_of
from lvsm_pytorch.data.view_sampling import draw_nearest_views, happens, log_uniform, uniform
from lvsm_pytorch.data.worlds import RenderedWorlds, render_worlds
from lvsm_pytorch.geometry.cameras import Cameras, pose
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.geometry.scene_scale import DepthRange, SceneScale
from lvsm_pytorch.geometry.view_selection import nearest_views

# standard deviations of pose errors in the worst samples: rotations in degrees, centres as a fraction of the near distance, focal lengths as a fraction

ROTATION_ERROR = 0.12
CENTER_ERROR = 0.003
FOCAL_ERROR = 0.004

# range of the error factor of the near distance, drawn log-uniformly; and of the margins of the planes beyond the true range, as fractions of its extent in inverse distance

NEAR_ERROR = 0.68, 1.48
PLANE_MARGINS = 0.2, 0.8

# probabilities of pose errors, of planes that extend to infinity, of permuted colour channels, and of changed contrast

WRONG_POSES, TO_INFINITY, SWAPPED_CHANNELS, OTHER_GAMMA = 0.5, 0.25, 0.5, 0.3


class WorldSource(Source):
    """Source of procedural worlds, one for each seed. The world of a sample is drawn from a window of seeds that moves with the samples, so that each world is rendered once.

    Args:
        image_size: Height and width in pixels, one number or two. Rectangular images are centre crops of square ones.
        options: Options of `Source`.
    """

    NUM_HELD_OUT = 64
    FIRST_TRAINING_SEED = 1_000
    WINDOW = 256
    SAMPLES_PER_WORLD = 8
    NUM_VIEWS = 10
    description = 'procedural worlds, without end'
    scale = 'depth'

    def __init__(self, *, image_size: int | tuple[int, int], **options: Any):
        super().__init__(**options)
        self.size = as_size(image_size)
        self.num_views = max(self.NUM_VIEWS, self.max_num_inputs + max(self.num_targets, 1))
        self.renders = SharedResults(self.render, 2 * self.WINDOW)

    def render(self, seed: int) -> dict[str, Tensor]:
        images, cameras, distance = render_worlds([seed], num_views = self.num_views, image_size = max(self.size))
        camera_to_world, intrinsics = middle_cameras(cameras, self.size)
        return dict(images = middle_of(images, self.size).contiguous(), distance = middle_of(distance, self.size).contiguous(), camera_to_world = camera_to_world, intrinsics = intrinsics)

    def rendered(self, seed: int) -> RenderedWorlds:
        """Returns a rendered world. Workers share the result, so that it is rendered once."""
        parts = self.renders(seed)
        return RenderedWorlds(parts['images'], Cameras(parts['camera_to_world'], parts['intrinsics']), parts['distance'])

    def share(self, folder: Path | None) -> None:
        self.renders.folder = folder

    def sample(self, number: int) -> Batch:
        generator = self.generator(number)
        window = self.FIRST_TRAINING_SEED + self.seed * 10_000_019 + number // self.SAMPLES_PER_WORLD
        seed = window + int(torch.randint(self.WINDOW, (), generator = generator))
        num_inputs = self.draw_num_inputs(number)
        indices = draw_nearest_views(self.rendered(seed).cameras.camera_to_world[0], num_inputs = num_inputs, num_targets = self.num_targets, generator = generator)
        return self.views(seed, indices, num_inputs, generator)

    def held_out(self, most: int = NUM_HELD_OUT) -> Batch:
        """Returns a batch of worlds of seeds that are never used for training: a view of each as the target, and the nearest ones as inputs."""
        return self.collate([self.views(seed, [*nearest_to_first(self.rendered(seed), self.num_inputs), 0], self.num_inputs) for seed in range(most)])

    def views(self, seed: int, indices: list[int], num_inputs: int, generator: Generator | None = None) -> Batch:
        """Returns views of a world as a batch of b = 1, inputs first, in units of the near distance, with pose errors and augmentations drawn from a generator."""
        world, name = self.rendered(seed), f'world {seed}'
        images, distances = world.images[0, indices], world.distance[0, indices]
        camera_to_world, intrinsics = (t[0, indices] for t in world.cameras)
        found = true_range(distances[:num_inputs])
        scale = SceneScale(found.unit, found.with_margin())

        if generator is not None:
            scale = SceneScale(found.unit * log_uniform(*NEAR_ERROR, generator), jittered_planes(found, generator))
            images = augmented(images, generator)
            camera_to_world, intrinsics = with_errors(camera_to_world.double(), intrinsics, found.near, generator)

        world_to_unit = normalize_poses(camera_to_world[:num_inputs].double(), unit = scale.unit).similarity
        cameras = Cameras(camera_to_world.double(), intrinsics).transform(world_to_unit).to(torch.float32)
        return Batch(images[None], cameras[None], [name], num_inputs, scale.depth_range(scale.unit)[None], (distances / scale.unit)[None])


def true_range(distances: Tensor) -> DepthRange:
    """Returns the true depth range, which `estimate_depth_range` estimates, from distances (...) to surfaces."""
    surfaces = distances[distances.isfinite()]
    near, far = torch.quantile(surfaces.flatten()[::7], torch.tensor([0.05, 0.95])).tolist() if surfaces.numel() > 700 else (1., 50.)
    return DepthRange(near, max(far, 1.02 * near))


def nearest_to_first(world: RenderedWorlds, count: int) -> list[int]:
    """Returns the numbers of the `count` views nearest to the first one."""
    poses = world.cameras.camera_to_world[0]
    return [1 + index for index in nearest_views(poses[1:], poses[0], count)]


def jittered_planes(found: DepthRange, generator: Generator) -> DepthRange:
    """Perturbs a depth range with the errors of an estimate."""
    far, near = (uniform(*PLANE_MARGINS, generator) for _ in range(2))
    return found.with_margin(near, math.inf if happens(TO_INFINITY, generator) else far)


def augmented(images: Tensor, generator: Generator) -> Tensor:
    """Augments images (n 3 h w) of a sample, all alike, by permuted colour channels or changed contrast."""
    if happens(SWAPPED_CHANNELS, generator):
        images = images[:, torch.randperm(3, generator = generator)]

    return images ** math.exp(uniform(-0.4, 0.4, generator)) if happens(OTHER_GAMMA, generator) else images


def with_errors(camera_to_world: Tensor, intrinsics: Tensor, near: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Adds errors of structure from motion to poses (n 4 4) and intrinsics (n 3 3): mostly none, sometimes a fraction of a pixel."""
    if not happens(WRONG_POSES, generator):
        return camera_to_world, intrinsics

    size = float(torch.rand((), generator = generator)) ** 2

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator = generator, dtype = camera_to_world.dtype) * size

    n = len(camera_to_world)
    rotation = camera_to_world[:, :3, :3] @ small_rotations(normal(n, 3) * math.radians(ROTATION_ERROR))
    scale = torch.cat((1 + FOCAL_ERROR * normal(n, 2), torch.ones(n, 1)), dim = 1).to(intrinsics)
    focal = torch.diag_embed(intrinsics.diagonal(dim1 = -2, dim2 = -1))
    return pose(rotation, camera_to_world[:, :3, 3] + normal(n, 3) * CENTER_ERROR * near), intrinsics - focal + focal * rearrange(scale, 'n i -> n 1 i')


def small_rotations(axis_angle: Tensor) -> Tensor:
    """Returns rotations (n 3 3) from axis-angle vectors (n 3) in radians, the exponential of their cross product matrices."""
    x, y, z = axis_angle.unbind(dim = -1)
    zero = torch.zeros_like(x)
    return torch.matrix_exp(rearrange([zero, -z, y, z, zero, -x, -y, x, zero], '(i j) n -> n i j', i = 3))
