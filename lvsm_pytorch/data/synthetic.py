"""Built-in synthetic scenes: textured spheres and boxes that occlude each other on a textured ground, ray traced in torch.

A scene depends on its seed only, so that the number of scenes is unlimited and none is stored. The world is right-handed with z up, the ground is
z = 0, the unit is about the size of two solids, and cameras look at the solids from one side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor

from lvsm_pytorch.data.scene import Scene, View
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.rays import plucker_rays
from lvsm_pytorch.geometry.trajectories import look_at

NUM_SPHERES = 3
NUM_BOXES = 3
NUM_SOLIDS = NUM_SPHERES + NUM_BOXES
NUMBERS_PER_SOLID = 20
NUMBERS_PER_VIEW = 8

# spread of the cameras of a scene: with these values, copying the better of two input views scores about 16 dB at 64²
AZIMUTHS = math.radians(45)
ELEVATIONS = math.radians(15), math.radians(37)
DISTANCES = 3.3, 4.2
OFF_CENTER = 0.35

# frequencies of the textures in radians per unit: higher ones are harder to resolve
SOLID_WAVES, GROUND_WAVES = 6., 2.5

# rays in a pixel along each side (supersampling): with a single one, distant edges flicker between views
SUPERSAMPLING = 2


class Surfaces(NamedTuple):
    """Textures of the solids and, last, of the ground: stripes or checks of two colours, in coordinates of the surface."""
    colors: Tensor      # s k 2 3, in [0, 1]
    waves: Tensor       # s k 2 3, radians per unit, along two directions
    is_checked: Tensor  # s k, bool
    phase: Tensor       # s k, radians


class World(NamedTuple):
    """Geometry, textures and light of s scenes with k solids each: spheres, then boxes."""
    centers: Tensor     # s k 3
    half_sizes: Tensor  # s k 3; for spheres, the radius repeated three times
    axes: Tensor        # s k 3 3, from world to the solid
    surfaces: Surfaces  # of k solids and the ground
    sky: Tensor         # s 2 3, at the horizon and above
    light: Tensor       # s 3, unit direction to the light


def synthetic_scenes(seeds: Sequence[int], *, num_views: int, image_size: int) -> tuple[Tensor, Cameras]:
    """Renders whole scenes.

    Args:
        seeds: Seeds of the scenes.
        num_views: Number of views of each scene, the first ones of an endless sequence.
        image_size: Height and width in pixels.

    Returns:
        Images (s v 3 h w) in [0, 1] and cameras (s v ...), OpenCV axes, intrinsics in pixels.
    """
    world, cameras = worlds_and_cameras(seeds, num_views = num_views, image_size = image_size)
    return render(world, cameras, image_size), cameras


def synthetic_scene(seed: int, *, num_views: int = 8, image_size: int = 64) -> Scene:
    """Returns a built-in scene as a `Scene`, whose views are rendered when they are loaded."""
    world, cameras = worlds_and_cameras([seed], num_views = num_views, image_size = image_size)

    def load(index: int) -> Tensor:
        return render(world, cameras[:, index:index + 1], image_size)[0, 0]

    views = [View(f'{index:04d}', cameras.camera_to_world[0, index], cameras.intrinsics[0, index], partial(load, index)) for index in range(num_views)]
    return Scene(f'synthetic-{seed}', tuple(views))


def worlds_and_cameras(seeds: Sequence[int], *, num_views: int, image_size: int) -> tuple[World, Cameras]:
    """Draws the worlds and cameras of scenes, from one generator for each."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(*shape: int) -> Tensor:
        return torch.stack([torch.rand(shape, generator = generator) for generator in generators])

    return make_world(uniform(NUM_SOLIDS + 1, NUMBERS_PER_SOLID), uniform(12)), make_cameras(uniform(4), uniform(num_views, NUMBERS_PER_VIEW), image_size)


def make_world(per_solid: Tensor, per_scene: Tensor) -> World:
    """Builds solids and textures of scenes from uniform random numbers in [0, 1).

    Args:
        per_solid: (s k+1 numbers), the ground last.
        per_scene: (s 12).
    """
    place, size, turn, *look = per_solid.split((2, 3, 1, 6, 6, 1, 1), dim = -1)
    place, size, turn = place[:, :-1], size[:, :-1], turn[:, :-1]
    s, k, _ = place.shape

    # solids around the centre, each in its own sector, so that they don't intersect but occlude each other

    angle = (torch.arange(k) + place[..., 0]) * (2 * torch.pi / k) + per_scene[:, :1] * 2 * torch.pi
    distance = 0.3 + 1.1 * place[..., 1]
    half_sizes = 0.25 + 0.35 * size
    half_sizes[:, :NUM_SPHERES] = half_sizes[:, :NUM_SPHERES, :1]

    centers = torch.stack((distance * angle.cos(), distance * angle.sin(), half_sizes[..., 2]), dim = -1)

    turn = turn[..., 0] * torch.pi
    zero, one = torch.zeros_like(turn), torch.ones_like(turn)
    axes = torch.stack((turn.cos(), turn.sin(), zero, -turn.sin(), turn.cos(), zero, zero, zero, one), dim = -1).unflatten(-1, (3, 3))

    # textures: waves along random directions, with lower frequencies on the ground

    colors, waves, is_checked, phase = look
    directions = F.normalize(waves.unflatten(-1, (2, 3)) - 0.5, dim = -1)
    frequency = torch.tensor([SOLID_WAVES] * k + [GROUND_WAVES])
    surfaces = Surfaces(
        colors = 0.05 + 0.85 * colors.unflatten(-1, (2, 3)),
        waves = directions * rearrange(frequency, 'k -> k 1 1'),
        is_checked = is_checked[..., 0] > 0.5,
        phase = phase[..., 0] * 2 * torch.pi,
    )

    sky = per_scene[:, 1:7].unflatten(-1, (2, 3)) * 0.5 + 0.5
    light = F.normalize(torch.stack((per_scene[:, 7] - 0.5, per_scene[:, 8] - 0.5, torch.full((s,), 0.6)), dim = -1), dim = -1)
    return World(centers, half_sizes, axes, surfaces, sky, light)


def make_cameras(per_scene: Tensor, per_view: Tensor, image_size: int) -> Cameras:
    """Builds cameras (s v ...) from uniform random numbers in [0, 1).

    Args:
        per_scene: (s 4).
        per_view: (s v numbers).
        image_size: Height and width in pixels.
    """
    azimuth = per_scene[:, :1] * 2 * torch.pi + (per_view[..., 0] - 0.5) * AZIMUTHS
    elevation = between(*ELEVATIONS, per_view[..., 1])
    distance = between(*DISTANCES, per_view[..., 2])

    eye = rearrange(distance, 's v -> s v 1') * torch.stack((azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos(), elevation.sin()), dim = -1)
    target = between(-OFF_CENTER, OFF_CENTER, per_view[..., 3:6]) * torch.tensor([1., 1., 0.5]) + torch.tensor([0., 0., 0.3])
    camera_to_world = look_at(eye, target, torch.tensor([0., 0., 1.]))

    focal = image_size * (1. + 0.2 * per_scene[:, 1])
    intrinsics = torch.eye(3).repeat(len(per_scene), 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = image_size / 2
    return Cameras(camera_to_world, repeat(intrinsics, 's i j -> s v i j', v = per_view.shape[1]))


def between(low: float, high: float, fraction: Tensor) -> Tensor:
    return low + (high - low) * fraction


def render(world: World, cameras: Cameras, image_size: int) -> Tensor:
    """Renders images (s v 3 h w) in [0, 1] of worlds (s) by ray tracing, from cameras (s v ...)."""
    fine = SUPERSAMPLING
    intrinsics = cameras.intrinsics * torch.tensor([fine, fine, 1.]).unsqueeze(-1)
    rays = plucker_rays(cameras.camera_to_world, intrinsics, (image_size * fine, image_size * fine))

    directions = rearrange(rays[:, :, :3], 's v i h w -> s v (h w) i')
    color = shade(world, cameras.camera_to_world[..., :3, 3], directions)

    color = rearrange(color, 's v (h w) i -> s v i h w', h = image_size * fine)
    return reduce(color, 's v i (h p) (w q) -> s v i h w', 'mean', p = fine, q = fine)


def shade(world: World, origins: Tensor, directions: Tensor) -> Tensor:
    """Returns the colours (s v n 3) of the first surfaces that rays hit, lit from one side, from `origins` (s v 3) along unit `directions` (s v n 3)."""
    shape = directions.shape[:3]

    # cameras and rays in each solid's own frame

    to_camera = rearrange(origins, 's v i -> s v 1 i') - rearrange(world.centers, 's k i -> s 1 k i')
    local_origins = einsum(world.axes, to_camera, 's k j i, s v k i -> s v k j')
    local_directions = einsum(directions, world.axes, 's v n i, s k j i -> s v n k j')

    # distance along the ray to each solid and to the ground, infinite where it misses

    near_origins = rearrange(local_origins, 's v k j -> s v 1 k j')
    to_spheres = hit_spheres(near_origins[..., :NUM_SPHERES, :], local_directions[..., :NUM_SPHERES, :], world.half_sizes[:, None, None, :NUM_SPHERES, 0])
    to_boxes = hit_boxes(near_origins[..., NUM_SPHERES:, :], local_directions[..., NUM_SPHERES:, :], world.half_sizes[:, None, None, NUM_SPHERES:])

    down = -directions[..., 2]
    to_ground = torch.where(down > 1e-6, origins[..., None, 2] / down.clamp(min = 1e-6), torch.inf)

    distance, hit = torch.cat((to_spheres, to_boxes, to_ground.unsqueeze(-1)), dim = -1).min(dim = -1)
    is_ground, is_sky = hit == NUM_SOLIDS, distance.isinf()
    distance = torch.where(is_sky, 0., distance).unsqueeze(-1)

    # intersection in the frame of the solid (of the world for the ground), and its normal in the frame of the world

    solid = hit.clamp(max = NUM_SOLIDS - 1)
    scene, view, _ = torch.meshgrid(*map(torch.arange, shape), indexing = 'ij')

    ray = local_directions.gather(3, repeat(solid, 's v n -> s v n 1 j', j = 3)).squeeze(3)
    local_point = local_origins[scene, view, solid] + distance * ray
    scaled_point = local_point / world.half_sizes[scene, solid]

    face = F.one_hot(scaled_point.abs().argmax(dim = -1), 3) * scaled_point.sign()
    local_normal = torch.where((solid < NUM_SPHERES).unsqueeze(-1), scaled_point, face)
    normal = einsum(world.axes[scene, solid], local_normal, '... j i, ... j -> ... i')

    normal = torch.where(is_ground.unsqueeze(-1), torch.tensor([0., 0., 1.]), normal)
    point = torch.where(is_ground.unsqueeze(-1), origins.unsqueeze(2) + distance * directions, local_point)

    # colour of the surface, lighting, and haze towards the horizon

    light = 0.55 + 0.45 * einsum(normal, world.light, 's v n i, s i -> s v n').clamp(min = 0)
    color = texture(world.surfaces, scene, hit, point) * light.unsqueeze(-1)

    horizon, zenith = rearrange(world.sky, 's two i -> two s 1 1 i')
    color = torch.lerp(horizon, color, torch.exp(-0.006 * distance ** 2))
    sky = torch.lerp(horizon, zenith, (-down).clamp(min = 0).unsqueeze(-1))
    return torch.where(is_sky.unsqueeze(-1), sky, color)


def texture(surfaces: Surfaces, scene: Tensor, hit: Tensor, point: Tensor) -> Tensor:
    """Returns the colours (... 3) of the surfaces `hit` (...) in scenes `scene` (...) at points (... 3)."""
    along = einsum(surfaces.waves[scene, hit], point, '... j i, ... i -> ... j') + surfaces.phase[scene, hit].unsqueeze(-1)
    first, second = along.sin().unbind(dim = -1)
    pattern = torch.where(surfaces.is_checked[scene, hit], first * second * 2, first)
    mix = 0.5 + 0.5 * torch.tanh(3 * pattern)
    return torch.lerp(surfaces.colors[scene, hit, 0], surfaces.colors[scene, hit, 1], mix.unsqueeze(-1))


def hit_spheres(origins: Tensor, directions: Tensor, radius: Tensor) -> Tensor:
    """Returns distances (... k) along unit rays (... k 3) to spheres centred at 0; infinite for rays that miss or start inside."""
    middle = -(origins * directions).sum(dim = -1)
    under_root = middle ** 2 - (origins ** 2).sum(dim = -1) + radius ** 2
    distance = middle - under_root.clamp(min = 0).sqrt()
    return torch.where((under_root > 0) & (distance > 0), distance, torch.inf)


def hit_boxes(origins: Tensor, directions: Tensor, half_sizes: Tensor) -> Tensor:
    """Returns distances (... k) along rays (... k 3) to boxes centred at 0, by the slab method (Kay & Kajiya 1986); infinite for rays that miss or start inside."""
    slowness = 1 / torch.where(directions.abs() < 1e-8, 1e-8, directions)
    middle, reach = -origins * slowness, half_sizes * slowness.abs()
    enter, leave = (middle - reach).amax(dim = -1), (middle + reach).amin(dim = -1)
    return torch.where((enter < leave) & (enter > 0), enter, torch.inf)
