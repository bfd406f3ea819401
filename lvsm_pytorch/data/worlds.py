"""Procedural worlds to learn from, ray traced in torch: rooms, grounds, single things, façades and land from above.

A world is a function of its seed alone, so that there is no end of them and none has to be stored. `layouts.py` says what is in a
world, this file what cameras see of it. All of a batch of worlds is rendered at once: a picture is cut in tiles, a tile knows which
primitives may be seen in it, and only these meet its rays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from torch import Tensor

from lvsm_pytorch.cameras import Cameras, look_at
from lvsm_pytorch.data.layouts import MAX_PRIMITIVES, MAX_VIEWS, World, make_world, stacked
from lvsm_pytorch.data.objects import BOUNDS, QUADRICS, Primitives
from lvsm_pytorch.data.textures import SIZE, look_up
from lvsm_pytorch.errors import fail

# rays along a side of a tile, how many tiles are traced and rays shaded at once: as much as fits a CPU's cache, or a GPU's appetite
TILE = 8
TILES_AT_ONCE = 512
TILES_AT_ONCE_ON_GPU = 65536
RAYS_AT_ONCE = 32768
RAYS_AT_ONCE_ON_GPU = 2 ** 22

SHADOW_SIZE = 256


class RenderedWorlds(NamedTuple):
    """s worlds, seen in v views each.

    images: (s v 3 h w) in [0, 1].
    cameras: (s v ...), OpenCV axes, intrinsics in pixels.
    distance: (s v h w), from the camera centre along the ray of a pixel to the first surface; infinite for sky.
    """
    images: Tensor
    cameras: Cameras
    distance: Tensor


class Hits(NamedTuple):
    """What rays hit first. surface: number of a primitive, or, after those, of a face of the shell."""
    distance: Tensor
    surface: Tensor


class Shadows(NamedTuple):
    """Distances to what is nearest to the main lights of s worlds."""
    camera_to_world: Tensor     # s 4 4, of a camera at the light
    focal: Tensor               # s, in texels
    distance: Tensor            # s·h·w
    texel: Tensor               # s, width of a texel where the light points


def render_worlds(seeds: Sequence[int], *, num_views: int, image_size: int, device: torch.device | str | None = None) -> RenderedWorlds:
    """Renders worlds.

    seeds: the worlds, by number. num_views: views of each, at most 32; the first so many of one list.
    image_size: height and width in pixels. device: where rays are traced; what is random doesn't depend on it.

    Errors: ValueError for arguments out of range.
    """
    if not seeds or not all(isinstance(seed, int) and 0 <= seed < 2 ** 63 for seed in seeds):
        fail('seeds', 'must be one or more integers from 0', seeds, 'Pass for example range(8).')

    if not 1 <= num_views <= MAX_VIEWS:
        fail('num_views', f'must be from 1 to {MAX_VIEWS}', num_views, 'Take more worlds for more pictures.')

    if image_size < 1:
        fail('image_size', 'must be at least 1', image_size, 'Pass for example 128.')

    with torch.no_grad():
        device = torch.device('cpu' if device is None else device)
        world = stacked([make_world(seed) for seed in seeds], device)
        cameras = make_cameras(world, num_views, image_size)
        return render(world, cameras, image_size)


def make_cameras(world: World, num_views: int, image_size: int) -> Cameras:
    """The first cameras (s v ...) of worlds."""
    camera_to_world, focal, principal, _ = (t[:, :num_views] for t in world.views)
    intrinsics = torch.eye(3, device = focal.device).repeat(*focal.shape, 1, 1)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal * image_size
    intrinsics[..., :2, 2] = principal * image_size
    return Cameras(camera_to_world, intrinsics)


def render(world: World, cameras: Cameras, image_size: int) -> RenderedWorlds:
    """Pictures of worlds (s), seen by cameras (s v). A ray goes through each pixel's centre and corners; where all of these hit one surface, that at the centre will do."""
    s, v = cameras.intrinsics.shape[:2]
    size = image_size
    centers = trace(world.primitives, world.shell, *cameras, size, 0.5)
    corners = trace(world.primitives, world.shell, *cameras, size + 1, 0.)
    near = [corners.surface[:, :, row:row + size, column:column + size] for row in (0, 1) for column in (0, 1)]
    edge = torch.stack([surface != centers.surface for surface in near]).any(dim = 0)
    padded = F.pad(edge, (1, 1, 1, 1))
    needed = padded[:, :, 1:, 1:] | padded[:, :, :-1, 1:] | padded[:, :, 1:, :-1] | padded[:, :, :-1, :-1]

    # colours of all centres, and of those corners that are needed

    table, shadows = surface_table(world), make_shadows(world)

    def colors_of(hits: Hits, needed: Tensor, first: float) -> Tensor:
        index = needed.flatten().nonzero().squeeze(-1)
        distance, surface, height, width = hits.distance.flatten(), hits.surface.flatten(), *needed.shape[2:]
        colors = torch.zeros(needed.numel(), 3, device = needed.device)

        for some in index.split(RAYS_AT_ONCE if needed.device.type == 'cpu' else RAYS_AT_ONCE_ON_GPU):
            pixel = some % (height * width)
            seen = shade(world, cameras, table, shadows, Hits(distance[some], surface[some]), some // (height * width), pixel % width + first, pixel // width + first)
            colors[some] = seen.clamp(0, 1.5)

        return rearrange(colors, '(s v h w) c -> s v c h w', s = s, v = v, h = height)

    images = colors_of(centers, torch.ones_like(edge), 0.5)
    around = colors_of(corners, needed, 0.)
    mean_around = sum(around[..., row:row + size, column:column + size] for row in (0, 1) for column in (0, 1)) / 4
    images = torch.where(edge.unsqueeze(2), (images + mean_around) / 2, images)

    # exposure by the first picture, as far as a camera's goes, then each view's own error

    mean = reduce(images[:, 0], 's c h w -> s', 'mean').clamp(min = 0.02)
    wanted = world.lighting.brightness / mean
    exposure = torch.where(wanted < 1, wanted.pow(0.35), wanted.pow(0.7)).clamp(0.6, 2.2)
    gain = rearrange(exposure, 's -> s 1 1') * world.views.gain[:, :v]
    images = images * rearrange(gain, 's v c -> s v c 1 1')

    # highlights are rolled off from 0.8 on

    images = torch.where(images > 0.8, 1 - 0.2 * torch.exp(-(images - 0.8) / 0.2), images).clamp(0, 1)

    # a ray that leaves through a face of sky meets nothing

    is_sky = F.pad(world.is_sky, (MAX_PRIMITIVES, 0)).gather(1, centers.surface.flatten(1)).view_as(edge)
    distance = torch.where(is_sky, torch.inf, centers.distance)
    return RenderedWorlds(images, cameras, distance)


# which primitive a ray hits

def trace(primitives: Primitives, shell: Tensor | None, camera_to_world: Tensor, intrinsics: Tensor, size: int, first: float = 0.) -> Hits:
    """What the rays of cameras (s v) through coordinates first, first + 1, ... hit first: (s v size size).

    primitives: (s k ...). shell: (s 2 3), or None for rays that may go on for ever, to distance infinity.
    """
    s, v = intrinsics.shape[:2]
    device = intrinsics.device
    across = math.ceil(size / TILE)

    # unit directions of rays, tile by tile

    at = torch.arange(across * TILE, device = device) + first
    x = (at - intrinsics[..., 0, 2, None]) / intrinsics[..., 0, 0, None]
    y = (at - intrinsics[..., 1, 2, None]) / intrinsics[..., 1, 1, None]
    rotation = camera_to_world[..., :3, :3]
    in_x = rearrange(rotation[..., 0], 's v i -> s v 1 i 1') * rearrange(x, 's v (t x) -> s v t 1 x', x = TILE)
    in_y = rearrange(rotation[..., 1], 's v i -> s v 1 i 1') * rearrange(y, 's v (t y) -> s v t 1 y', y = TILE) + rearrange(rotation[..., 2], 's v i -> s v 1 i 1')
    directions = rearrange(in_y, 's v ty i y -> s v ty 1 i y 1') + rearrange(in_x, 's v tx i x -> s v 1 tx i 1 x')
    directions = rearrange(directions, 's v ty tx i y x -> (s v ty tx) i (y x)')
    directions = directions * (directions * directions).sum(dim = 1, keepdim = True).rsqrt()
    camera = torch.arange(s * v, device = device).repeat_interleave(across ** 2)
    origins = rearrange(camera_to_world[..., :3, 3], 's v i -> (s v) i')[camera]

    # primitives that may be seen in a tile, one pair after another; tiles with many of them first

    tile, k = tile_pairs(primitives, camera_to_world, intrinsics, across, first)
    counts = torch.bincount(tile, minlength = len(camera))
    starts = counts.cumsum(0) - counts
    order = counts.argsort(descending = True, stable = True)
    ordered_counts = counts[order].tolist()

    # in a primitive's own frame, scaled to 1

    scale = 1 / primitives.half_sizes
    to_local = rearrange(primitives.axes * scale.unsqueeze(-1), 's k i j -> (s k) i j')
    centers = rearrange(primitives.centers, 's k i -> (s k) i')
    shape = rearrange(primitives.shape, 's k -> (s k)')
    quadrics, bounds = torch.tensor(QUADRICS, device = device)[shape], torch.tensor(BOUNDS, device = device)[shape]
    num_primitives = primitives.shape.shape[1]

    distance = torch.full((len(camera), TILE ** 2), torch.inf, device = device)
    surface = torch.full((len(camera), TILE ** 2), num_primitives, device = device)
    at_once = TILES_AT_ONCE if device.type == 'cpu' else TILES_AT_ONCE_ON_GPU

    for begin in range(0, len(camera), at_once):
        tiles = order[begin:begin + at_once]
        chunk_counts = ordered_counts[begin:begin + at_once]
        ray, origin = directions[tiles], origins[tiles]
        scene = camera[tiles] // v

        if shell is None:
            best, hit = distance[tiles], surface[tiles]
        else:
            best, hit = leave_shell(shell[scene], origin, ray)
            hit = hit + num_primitives

        n = len(tiles)

        for slot in range(chunk_counts[0]):
            while chunk_counts[n - 1] <= slot:
                n -= 1

            which = k[starts[tiles[:n]] + slot]
            row = scene[:n] * num_primitives + which
            matrix = to_local[row]
            local_origin = einsum(matrix, origin[:n] - centers[row], 'n i j, n j -> n i')
            entered = enter(quadrics[row], bounds[row], local_origin, matrix @ ray[:n], best[:n])
            closer = entered < best[:n]
            best[:n] = torch.where(closer, entered, best[:n])
            hit[:n] = torch.where(closer, which.unsqueeze(-1), hit[:n])

        distance[tiles], surface[tiles] = best, hit

    def to_picture(t: Tensor) -> Tensor:
        return rearrange(t, '(s v ty tx) (y x) -> s v (ty y) (tx x)', s = s, v = v, ty = across, y = TILE)[:, :, :size, :size]

    return Hits(to_picture(distance), to_picture(surface))


def tile_pairs(primitives: Primitives, camera_to_world: Tensor, intrinsics: Tensor, across: int, first: float) -> tuple[Tensor, Tensor]:
    """Pairs (n), (n) of a tile of all pictures and a primitive that may be seen in it, by the rectangle around the projected corners of its box."""
    device = intrinsics.device
    corner = torch.tensor([[x, y, z] for x in (-1., 1.) for y in (-1., 1.) for z in (-1., 1.)], device = device)
    corners = rearrange(primitives.centers, 's k i -> s k 1 i') + (corner * 1.01 * rearrange(primitives.half_sizes, 's k i -> s k 1 i')) @ primitives.axes
    moved = rearrange(corners, 's k c i -> s 1 (k c) i') - camera_to_world[..., None, :3, 3]
    x, y, z = rearrange(moved @ camera_to_world[..., :3, :3], 's v (k c) i -> i s v k c', c = 8)
    behind = z < 1e-3
    z = z.clamp(min = 1e-3)
    x = x / z * intrinsics[..., 0, 0, None, None] + intrinsics[..., 0, 2, None, None]
    y = y / z * intrinsics[..., 1, 1, None, None] + intrinsics[..., 1, 2, None, None]

    # what reaches behind the camera may be seen anywhere

    partly, wholly = behind.any(dim = -1), behind.all(dim = -1)
    seen = rearrange(primitives.present, 's k -> s 1 k') & ~wholly
    start = torch.arange(across, device = device) * TILE + first

    def overlaps(t: Tensor) -> Tensor:
        low, high = t.amin(dim = -1), t.amax(dim = -1)
        low, high = torch.where(partly, -torch.inf, low), torch.where(partly, torch.inf, high)
        return (low.unsqueeze(2) < start[:, None] + TILE) & (high.unsqueeze(2) > start[:, None] - 1)

    in_columns, in_rows = overlaps(x), overlaps(y) & seen.unsqueeze(2)
    mask = rearrange(in_rows, 's v ty k -> s v ty 1 k') & rearrange(in_columns, 's v tx k -> s v 1 tx k')
    tile, k = mask.flatten(0, 3).nonzero().unbind(dim = -1)
    return tile, k


def leave_shell(shell: Tensor, origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and face (n r) at which rays (n 3 r) from inside a box (n 2 3) leave it."""
    low, high = ((bound - origin).unsqueeze(-1) for bound in shell.unbind(dim = 1))
    outwards = ray > 0
    distance, axis = (torch.where(outwards, high, low) / torch.where(ray.abs() < 1e-9, 1e-9, ray.abs()).copysign(ray)).min(dim = 1)
    return distance, 2 * axis + outwards.gather(1, axis.unsqueeze(1)).squeeze(1)


def enter(quadric: Tensor, bounds: Tensor, origin: Tensor, ray: Tensor, limit: Tensor) -> Tensor:
    """Distance (n r) at which rays (n 3 r) from `origin` (n 3) enter primitives (n ...), in their frames; infinite, or beyond `limit`, where they don't."""
    squares, (linear, constant) = quadric[:, :3], quadric[:, 3:].unbind(dim = -1)

    # the box, by its slabs (Kay & Kajiya 1986)

    slowness = 1 / ray
    one, other = (bounds[:, :3] - origin).unsqueeze(-1) * slowness, (bounds[:, 3:] - origin).unsqueeze(-1) * slowness
    near, far = torch.minimum(one, other).amax(dim = 1), torch.maximum(one, other).amin(dim = 1)

    # the quadric: a t² + 2 b t + c. Roots of negative numbers are NaN and compare as misses; rsqrt is fast for these too, sqrt isn't

    gradient = squares * origin
    gradient[:, 2] += linear
    a = (squares.unsqueeze(1) @ (ray * ray)).squeeze(1)
    b = (gradient.unsqueeze(1) @ ray).squeeze(1)
    c = ((squares * origin * origin).sum(dim = -1) + 2 * linear * origin[:, 2] + constant).unsqueeze(-1)
    root = b * b - a * c
    root = root * root.rsqrt()
    slowness = 1 / a
    first, second = (-b - root) * slowness, (root - b) * slowness

    # a steep line meets a cone once: its other root is on the cone's mirror image

    steep, rising = a < 0, ray[:, 2] > 0
    first = torch.where(steep & rising, -torch.inf, first)
    second = torch.where(steep & ~rising, torch.inf, second)
    near, far = torch.maximum(near, first), torch.minimum(far, second)
    return torch.where((near < far) & (near > 1e-4), near, torch.inf)


# what it looks like

def shade(world: World, cameras: Cameras, table: tuple[Tensor, ...], shadows: Shadows, hits: Hits, picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Colours (n 3) of what is hit by rays (n) through coordinates x, y of pictures (n), which count all views of all worlds. table: by `surface_table`."""
    v = cameras.intrinsics.shape[1]
    scene = picture // v
    light = world.lighting

    intrinsics = cameras.intrinsics.flatten(0, 1)[picture]
    focal = intrinsics[:, 0, 0]
    pose = cameras.camera_to_world.flatten(0, 1)[picture]
    in_camera = torch.stack(((x - intrinsics[:, 0, 2]) / focal, (y - intrinsics[:, 1, 2]) / focal, torch.ones_like(x)), dim = -1)
    ray = F.normalize((pose[:, :3, :3] @ in_camera.unsqueeze(-1)).squeeze(-1), dim = -1)
    point = pose[:, :3, 3] + hits.distance.unsqueeze(-1) * ray

    # position in the frame of what is hit, and which part of it: a face of its box, or the quadric

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

    albedo, gloss, glow = paint(world, row, metric, half, local_normal, is_curved, hits.distance / (focal * facing.clamp(min = 0.1).sqrt()))

    # light: ambient from above and below, the main light with its shadow, a fill; darker towards corners of the shell

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
    """Centre, half sizes, axes, bounds and quadric of primitives and faces of the shell: (s·(k+6) ...), one row after another."""
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


def paint(world: World, row: Tensor, metric: Tensor, half: Tensor, normal: Tensor, is_curved: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Albedo (n 3), gloss (n) and glow (n) of surfaces (n, rows of the table) at points (n 3) of their frames, over footprints (n) in units of length."""
    pattern, frequency, offset, turn, color, contrast, detail, gloss, glow, wrapped = (t.flatten(0, 1)[row] for t in world.surfaces)

    # projected along the axis that the surface faces

    axis = normal.abs().argmax(dim = -1, keepdim = True)
    a, b = metric.gather(1, (axis + 1) % 3).squeeze(-1), metric.gather(1, (axis + 2) % 3).squeeze(-1)
    cosine, sine = turn.unbind(dim = -1)
    u, v = cosine * a - sine * b, sine * a + cosine * b

    # or around the z axis, a whole number of periods

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
    """What the main lights of worlds see. The shell casts no shadows."""
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
    """How much of the main light reaches points (n 3) of scenes (n): 0 to 1, blended over 2 × 2 texels."""
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
