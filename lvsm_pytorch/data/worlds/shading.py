"""Shading of the surfaces that rays hit: texture, light and shadows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.data.worlds.objects import BOUNDS, MAX_PRIMITIVES, QUADRICS
from lvsm_pytorch.data.worlds.scenery import World
from lvsm_pytorch.data.worlds.textures import SIZE, look_up
from lvsm_pytorch.data.worlds.tracing import Hits, trace
from lvsm_pytorch.geometry import Cameras, look_at

# texels along a side of the shadow map of the main light
SHADOW_SIZE = 256


class Shadows(NamedTuple):
    """Shadow maps: distances from the main lights of s worlds to the nearest surfaces."""
    camera_to_world: Tensor     # s 4 4, of a camera at the light
    focal: Tensor               # s, in texels
    distance: Tensor            # s·h·w
    texel: Tensor               # s, width of a texel at the focus of the light


def shade(world: World, cameras: Cameras, table: tuple[Tensor, ...], shadows: Shadows, hits: Hits, picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Returns the colours (n 3) of the surfaces that rays (n) hit.

    Args:
        world: Worlds (s).
        cameras: Cameras (s v ...).
        table: Table of surfaces by `surface_table`.
        shadows: Shadow maps.
        hits: Surfaces and distances (n) of the rays.
        picture: Numbers of the images (n), from 0 to s·v - 1.
        x: Pixel coordinates (n) of the rays.
        y: Pixel coordinates (n) of the rays.
    """
    v = cameras.intrinsics.shape[1]
    scene = picture // v
    light = world.lighting

    intrinsics = cameras.intrinsics.flatten(0, 1)[picture]
    focal = intrinsics[:, 0, 0]
    pose = cameras.camera_to_world.flatten(0, 1)[picture]
    in_camera = torch.stack(((x - intrinsics[:, 0, 2]) / focal, (y - intrinsics[:, 1, 2]) / focal, torch.ones_like(x)), dim = -1)
    ray = F.normalize((pose[:, :3, :3] @ in_camera.unsqueeze(-1)).squeeze(-1), dim = -1)
    point = pose[:, :3, 3] + hits.distance.unsqueeze(-1) * ray

    # intersection in the frame of the primitive, and the part that was hit: a face of its box, or the quadric

    row = scene * (MAX_PRIMITIVES + 6) + hits.surface
    center, half, axes, low, high, quadric = (t[row] for t in table)
    axes = axes.unflatten(-1, (3, 3))
    metric = (axes @ (point - center).unsqueeze(-1)).squeeze(-1)
    local = metric / half
    to_faces = torch.cat(((local - low).abs(), (local - high).abs()), dim = -1)
    to_face, face = to_faces.min(dim = -1)
    gradient = quadric[:, :3] * local
    gradient[:, 2] += quadric[:, 3]
    to_quadric = ((gradient * local).sum(dim = -1) + quadric[:, 3] * local[:, 2] + quadric[:, 4]).abs()
    is_curved = to_quadric < to_face

    flat_normal = F.one_hot(face % 3, 3).float()
    local_normal = torch.where(is_curved.unsqueeze(-1), F.normalize(gradient / half, dim = -1), flat_normal)
    normal = (local_normal.unsqueeze(-2) @ axes).squeeze(-2)
    facing = -(normal * ray).sum(dim = -1)
    normal = torch.where((facing < 0).unsqueeze(-1), -normal, normal)
    facing = facing.abs()

    albedo, gloss, glow = material_of(world, row, metric, half, local_normal, is_curved, hits.distance / (focal * facing.clamp(min = 0.1).sqrt()))

    # light: ambient from above and below, the main light with shadows, and a fill light; darker towards corners of the shell

    def of_scene(t: Tensor) -> Tensor:
        return t[scene]

    to_light = of_scene(light.position) - point
    light_distance = to_light.norm(dim = -1)
    to_light = to_light / light_distance.unsqueeze(-1)
    usual = (light.position - light.focus).norm(dim = -1)
    fading = of_scene(light.fading)
    strength = 1 - fading + fading * (2 / (1 + (light_distance / of_scene(usual)).square())).clamp(max = 1.8)
    lit = lightness(shadows, point + 1.5 * of_scene(shadows.texel).unsqueeze(-1) * normal, scene)
    strength = strength * (1 - of_scene(light.shadow) * (1 - lit))
    upwards = 0.5 + 0.5 * normal[:, 2:]
    direct = strength * (normal * to_light).sum(dim = -1).clamp(min = 0)
    filled = (normal * of_scene(light.fill)).sum(dim = -1).clamp(min = 0)
    shell = of_scene(world.shell)
    depth = torch.minimum(point - shell[:, 0], shell[:, 1] - point).clamp(min = 0) / (0.12 * (shell[:, 1] - shell[:, 0]).amin(dim = -1, keepdim = True))
    corner = 1 - of_scene(light.corners).unsqueeze(-1) * (torch.exp(-depth) * (1 - normal.abs())).amax(dim = -1, keepdim = True)
    ambient = torch.lerp(of_scene(light.ground), of_scene(light.sky), upwards) * corner
    halfway = F.normalize(to_light - ray, dim = -1)
    shine = gloss * strength * (normal * halfway).sum(dim = -1).clamp(min = 0) ** 40

    color = albedo * torch.maximum(ambient + direct.unsqueeze(-1) * of_scene(light.color) + filled.unsqueeze(-1), glow.unsqueeze(-1)) + shine.unsqueeze(-1)

    # haze and sky

    horizon, zenith = of_scene(light.horizon), of_scene(light.zenith)
    color = torch.lerp(horizon, color, torch.exp(-of_scene(light.haze) * hits.distance).unsqueeze(-1))
    face = hits.surface - MAX_PRIMITIVES
    is_sky = (face >= 0) & world.is_sky[scene, face.clamp(min = 0)]
    index = is_sky.nonzero().squeeze(-1)
    above = ray[index]
    steepness = above[:, 2].clamp(min = 0)
    pattern, frequency, cloudiness = light.clouds[scene[index]].unbind(dim = -1)
    stretch = frequency / (steepness + 0.15)
    level = torch.log2(SIZE * stretch / focal[index])
    cloud = look_up(pattern.long(), above[:, 0] * stretch, above[:, 1] * stretch, level)[:, 0]
    cover = ((cloud - 0.45) * 4).clamp(0, 1) * cloudiness * (steepness * 8).clamp(max = 1)
    blue = torch.lerp(horizon[index], zenith[index], steepness.sqrt().unsqueeze(-1))
    color[index] = torch.lerp(blue, torch.full_like(blue, 0.95), cover.clamp(0, 0.9).unsqueeze(-1))
    return color


def surface_table(world: World) -> tuple[Tensor, ...]:
    """Returns a table of the primitives and the faces of the shell, (s·(k+6) ...): centre, half sizes, axes, bounds and quadric."""
    p, device = world.primitives, world.shell.device
    s = len(world.shell)
    shape = p.shape

    def with_faces(of_primitives: Tensor, of_faces: Tensor) -> Tensor:
        return torch.cat((of_primitives, of_faces.expand(s, 6, of_primitives.shape[-1])), dim = 1).flatten(0, 1)

    bounds = torch.tensor(BOUNDS, device = device)[shape]
    zero, one = torch.zeros(3, device = device), torch.ones(3, device = device)
    return (
        with_faces(p.centers, zero),
        with_faces(p.half_sizes, one),
        with_faces(p.axes.flatten(-2), torch.eye(3, device = device).flatten()),
        with_faces(bounds[..., :3], world.shell[:, :1]),
        with_faces(bounds[..., 3:], world.shell[:, 1:]),
        with_faces(torch.tensor(QUADRICS, device = device)[shape], torch.tensor([0., 0., 0., 0., 1e9], device = device)),
    )


def material_of(world: World, row: Tensor, metric: Tensor, half: Tensor, normal: Tensor, is_curved: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns albedo (n 3), gloss (n) and glow (n) of surfaces (n, rows of the table) at points (n 3) in their frames, filtered over footprints (n) in units of length."""
    pattern, frequency, offset, turn, color, contrast, detail, gloss, glow, wrapped = (t.flatten(0, 1)[row] for t in world.surfaces)

    # projected along the axis nearest to the normal

    axis = normal.abs().argmax(dim = -1, keepdim = True)
    a, b = metric.gather(1, (axis + 1) % 3).squeeze(-1), metric.gather(1, (axis + 2) % 3).squeeze(-1)
    cosine, sine = turn.unbind(dim = -1)
    u, v = cosine * a - sine * b, sine * a + cosine * b

    # or wrapped around the z axis, with a whole number of periods

    is_wrapped = is_curved & (wrapped > 0)
    radius = 0.5 * (half[:, 0] + half[:, 1])
    here = metric[:, :2].norm(dim = -1).clamp(min = 1e-6)

    def coordinates(frequency: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        periods = (2 * math.pi * radius * frequency).round().clamp(min = 1)
        around = torch.atan2(metric[:, 1], metric[:, 0]) * (periods / (2 * math.pi))
        level = torch.log2(SIZE * footprint * torch.where(is_wrapped, torch.maximum(frequency, 0.5 * periods / (2 * math.pi * here)), frequency))
        return torch.where(is_wrapped, around, u * frequency) + offset[:, 0], torch.where(is_wrapped, metric[:, 2], v) * frequency + offset[:, 1], level

    channels = look_up(pattern, *coordinates(frequency))
    fine = look_up(detail[:, 0].long(), *coordinates(detail[:, 1]))
    albedo = color + (contrast @ (channels[:, :3] - 0.5).unsqueeze(-1)).squeeze(-1)
    albedo = albedo.clamp(0.02, 1.) * (1 + detail[:, 2, None] * (fine[:, 3:] - 0.5))
    return albedo.clamp(0, 1), gloss, glow


def make_shadows(world: World) -> Shadows:
    """Renders shadow maps from the main lights of worlds. The shell casts no shadows."""
    light = world.lighting
    device = light.position.device
    distance = (light.position - light.focus).norm(dim = -1)
    camera_to_world = look_at(light.position, light.focus, torch.tensor([0.01, 0., 1.], device = device))
    slope = (light.reach / distance).clamp(max = 0.85)
    intrinsics = torch.eye(3, device = device).repeat(len(slope), 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = SHADOW_SIZE / 2 / slope
    intrinsics[:, :2, 2] = SHADOW_SIZE / 2
    hits = trace(world.primitives, None, camera_to_world.unsqueeze(1), intrinsics.unsqueeze(1), SHADOW_SIZE)
    return Shadows(camera_to_world, intrinsics[:, 0, 0], hits.distance.flatten(), 2 * slope * distance / SHADOW_SIZE)


def lightness(shadows: Shadows, point: Tensor, scene: Tensor) -> Tensor:
    """Returns the fraction (n) of the main light that reaches points (n 3) of scenes (n), in [0, 1], interpolated over 2 × 2 texels."""
    camera_to_world, focal, distance, texel = shadows
    moved = ((point - camera_to_world[scene, :3, 3]).unsqueeze(-2) @ camera_to_world[scene, :3, :3]).squeeze(-2)
    z = moved[:, 2].clamp(min = 1e-3)
    scale = focal[scene] / z
    x, y = moved[:, 0] * scale + SHADOW_SIZE / 2, moved[:, 1] * scale + SHADOW_SIZE / 2
    outside = (moved[:, 2] < 1e-3) | (x < 0) | (y < 0) | (x > SHADOW_SIZE - 1) | (y > SHADOW_SIZE - 1)
    x, y = x.clamp(0, SHADOW_SIZE - 1.001), y.clamp(0, SHADOW_SIZE - 1.001)
    left, top = x.long(), y.long()
    across, down = x - left, y - top
    start = (scene * SHADOW_SIZE + top) * SHADOW_SIZE + left
    away = moved.norm(dim = -1) - texel[scene]

    def passes(offset: int) -> Tensor:
        return (distance[start + offset] > away).float()

    upper = torch.lerp(passes(0), passes(1), across)
    lower = torch.lerp(passes(SHADOW_SIZE), passes(SHADOW_SIZE + 1), across)
    return torch.where(outside, 1., torch.lerp(upper, lower, down))
