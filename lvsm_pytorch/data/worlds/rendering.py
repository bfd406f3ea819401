"""Rendering of procedural worlds by ray tracing in torch: rooms, outdoor grounds, single objects, façades and landscapes from above.

A world depends on its seed only, so that the number of worlds is unlimited and none is stored. `scenery.py` generates a world; this file renders a
batch of worlds, with `tracing.py` for intersections and `shading.py` for colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from lvsm_pytorch.data.worlds.layouts import MAX_VIEWS
from lvsm_pytorch.data.worlds.objects import MAX_PRIMITIVES
from lvsm_pytorch.data.worlds.scenery import World, make_world, stacked
from lvsm_pytorch.data.worlds.shading import make_shadows, shade, surface_table
from lvsm_pytorch.data.worlds.tracing import Hits, trace
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry import Cameras

# number of rays shaded at once: it fits the cache of a CPU, or fills a GPU
RAYS_AT_ONCE = 32768
RAYS_AT_ONCE_ON_GPU = 2 ** 22


class RenderedWorlds(NamedTuple):
    """Rendered views of s worlds, v of each.

    Attributes:
        images: (s v 3 h w) in [0, 1].
        cameras: (s v ...), OpenCV axes, intrinsics in pixels.
        distance: (s v h w), distance from the camera centre along the ray of a pixel to the first surface; infinite for sky.
    """
    images: Tensor
    cameras: Cameras
    distance: Tensor


def render_worlds(seeds: Sequence[int], *, num_views: int, image_size: int, device: torch.device | str | None = None) -> RenderedWorlds:
    """Renders worlds.

    Args:
        seeds: Seeds of the worlds.
        num_views: Number of views of each world, at most 32.
        image_size: Height and width in pixels.
        device: Device for ray tracing. Random draws don't depend on it.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not seeds or not all(isinstance(seed, int) and 0 <= seed < 2 ** 63 for seed in seeds):
        fail('seeds', 'must be one or more integers from 0', seeds, 'Pass for example range(8).')

    if not 1 <= num_views <= MAX_VIEWS:
        fail('num_views', f'must be from 1 to {MAX_VIEWS}', num_views, 'Render more worlds for more images.')

    if image_size < 1:
        fail('image_size', 'must be at least 1', image_size, 'Pass for example 128.')

    with torch.no_grad():
        device = torch.device('cpu' if device is None else device)
        world = stacked([make_world(seed) for seed in seeds], device)
        cameras = make_cameras(world, num_views, image_size)
        return render(world, cameras, image_size)


def make_cameras(world: World, num_views: int, image_size: int) -> Cameras:
    """Returns the first `num_views` cameras (s v ...) of worlds."""
    camera_to_world, focal, principal, _ = (t[:, :num_views] for t in world.views)
    intrinsics = torch.eye(3, device = focal.device).repeat(*focal.shape, 1, 1)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal * image_size
    intrinsics[..., :2, 2] = principal * image_size
    return Cameras(camera_to_world, intrinsics)


def render(world: World, cameras: Cameras, image_size: int) -> RenderedWorlds:
    """Renders images of worlds (s) from cameras (s v). Rays go through the centre and the corners of each pixel; only the central one is shaded if all hit the same surface."""
    s, v = cameras.intrinsics.shape[:2]
    size = image_size
    centers = trace(world.primitives, world.shell, cameras.camera_to_world, cameras.intrinsics, size, 0.5)
    corners = trace(world.primitives, world.shell, cameras.camera_to_world, cameras.intrinsics, size + 1, 0.)
    near = [corners.surface[:, :, row:row + size, column:column + size] for row in (0, 1) for column in (0, 1)]
    edge = torch.stack([surface != centers.surface for surface in near]).any(dim = 0)
    padded = F.pad(edge, (1, 1, 1, 1))
    needed = padded[:, :, 1:, 1:] | padded[:, :, :-1, 1:] | padded[:, :, 1:, :-1] | padded[:, :, :-1, :-1]

    # colours of all centres, and of the corners of pixels at edges

    table, shadows = surface_table(world), make_shadows(world)

    def colors_of(hits: Hits, needed: Tensor, first: float) -> Tensor:
        index = needed.flatten().nonzero().squeeze(-1)
        distance, surface, height, width = hits.distance.flatten(), hits.surface.flatten(), *needed.shape[2:]
        colors = torch.zeros(needed.numel(), 3, device = needed.device)

        for some in index.split(RAYS_AT_ONCE if needed.device.type == 'cpu' else RAYS_AT_ONCE_ON_GPU):
            pixel = some % (height * width)
            shaded = shade(world, cameras, table, shadows, Hits(distance[some], surface[some]), some // (height * width), pixel % width + first, pixel // width + first)
            colors[some] = shaded.clamp(0, 1.5)

        return rearrange(colors, '(s v h w) c -> s v c h w', s = s, v = v, h = height)

    images = colors_of(centers, torch.ones_like(edge), 0.5)
    around = colors_of(corners, needed, 0.)
    mean_around = sum(around[..., row:row + size, column:column + size] for row in (0, 1) for column in (0, 1)) / 4
    images = torch.where(edge.unsqueeze(2), (images + mean_around) / 2, images)

    # automatic exposure from the first image, limited as in a camera; then the exposure error of each view

    mean = reduce(images[:, 0], 's c h w -> s', 'mean').clamp(min = 0.02)
    wanted = world.lighting.brightness / mean
    exposure = torch.where(wanted < 1, wanted.pow(0.35), wanted.pow(0.7)).clamp(0.6, 2.2)
    gain = rearrange(exposure, 's -> s 1 1') * world.views.gain[:, :v]
    images = images * rearrange(gain, 's v c -> s v c 1 1')

    # soft clipping of highlights above 0.8

    images = torch.where(images > 0.8, 1 - 0.2 * torch.exp(-(images - 0.8) / 0.2), images).clamp(0, 1)

    # rays that leave through a face of sky hit no surface

    is_sky = F.pad(world.is_sky, (MAX_PRIMITIVES, 0)).gather(1, centers.surface.flatten(1)).view_as(edge)
    distance = torch.where(is_sky, torch.inf, centers.distance)
    return RenderedWorlds(images, cameras, distance)
