"""Ray tracing: the first primitive that each ray hits, for all rays of many cameras at once.

Images are divided into tiles. Rays of a tile are intersected only with the primitives that may be visible in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import einsum, rearrange
from torch import Tensor

from lvsm_pytorch.data.worlds.objects import BOUNDS, QUADRICS, Primitives

# rays along a side of a tile, and number of tiles traced at once: they fit the cache of a CPU, or fill a GPU
TILE = 8
TILES_AT_ONCE = 512
TILES_AT_ONCE_ON_GPU = 65536


class Hits(NamedTuple):
    """First intersections of rays.

    Attributes:
        distance: Distance along the ray, infinite without an intersection.
        surface: Number of the primitive, or after those of the face of the shell.
    """
    distance: Tensor
    surface: Tensor


def trace(primitives: Primitives, shell: Tensor | None, camera_to_world: Tensor, intrinsics: Tensor, size: int, first: float = 0.) -> Hits:
    """Traces the rays of cameras (s v) through pixel coordinates first, first + 1, ... along both axes: (s v size size).

    Args:
        primitives: Primitives (s k ...).
        shell: Corners of the shell (s 2 3), or None without a shell, where rays may hit nothing.
        camera_to_world: (s v 4 4).
        intrinsics: (s v 3 3) in pixels.
        size: Number of rays along each axis.
        first: Pixel coordinate of the first ray.
    """
    s, v = intrinsics.shape[:2]
    device = intrinsics.device
    across = math.ceil(size / TILE)

    # unit directions of rays for each tile

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

    # pairs of tiles and primitives that may be visible in them; tiles with many primitives come first

    tile, k = tile_pairs(primitives, camera_to_world, intrinsics, across, first)
    counts = torch.bincount(tile, minlength = len(camera))
    starts = counts.cumsum(0) - counts
    order = counts.argsort(descending = True, stable = True)
    ordered_counts = counts[order].tolist()

    # frames of the primitives, scaled by their half sizes

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
    """Returns pairs (n), (n) of tiles of all images and primitives that may be visible in them, from the bounding rectangle of the projected corners of the primitive's box."""
    device = intrinsics.device
    corner = torch.tensor([[x, y, z] for x in (-1., 1.) for y in (-1., 1.) for z in (-1., 1.)], device = device)
    corners = rearrange(primitives.centers, 's k i -> s k 1 i') + (corner * 1.01 * rearrange(primitives.half_sizes, 's k i -> s k 1 i')) @ primitives.axes
    moved = rearrange(corners, 's k c i -> s 1 (k c) i') - camera_to_world[..., None, :3, 3]
    x, y, z = rearrange(moved @ camera_to_world[..., :3, :3], 's v (k c) i -> i s v k c', c = 8)
    behind = z < 1e-3
    z = z.clamp(min = 1e-3)
    x = x / z * intrinsics[..., 0, 0, None, None] + intrinsics[..., 0, 2, None, None]
    y = y / z * intrinsics[..., 1, 1, None, None] + intrinsics[..., 1, 2, None, None]

    # primitives partly behind the camera may be visible in any tile

    partly, wholly = behind.any(dim = -1), behind.all(dim = -1)
    is_visible = rearrange(primitives.present, 's k -> s 1 k') & ~wholly
    start = torch.arange(across, device = device) * TILE + first

    def overlaps(t: Tensor) -> Tensor:
        low, high = t.amin(dim = -1), t.amax(dim = -1)
        low, high = torch.where(partly, -torch.inf, low), torch.where(partly, torch.inf, high)
        return (low.unsqueeze(2) < start[:, None] + TILE) & (high.unsqueeze(2) > start[:, None] - 1)

    in_columns, in_rows = overlaps(x), overlaps(y) & is_visible.unsqueeze(2)
    mask = rearrange(in_rows, 's v ty k -> s v ty 1 k') & rearrange(in_columns, 's v tx k -> s v 1 tx k')
    tile, k = mask.flatten(0, 3).nonzero().unbind(dim = -1)
    return tile, k


def leave_shell(shell: Tensor, origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the distance and the face (n r) at which rays (n 3 r) from inside a box (n 2 3) leave it."""
    low, high = ((bound - origin).unsqueeze(-1) for bound in shell.unbind(dim = 1))
    outwards = ~ray.signbit()  # consistent with copysign, since components of rays along a face may be -0
    distance, axis = (torch.where(outwards, high, low) / torch.where(ray.abs() < 1e-9, 1e-9, ray.abs()).copysign(ray)).min(dim = 1)
    return distance, 2 * axis + outwards.gather(1, axis.unsqueeze(1)).squeeze(1)


def enter(quadric: Tensor, bounds: Tensor, origin: Tensor, ray: Tensor, limit: Tensor) -> Tensor:
    """Returns the distances (n r) at which rays (n 3 r) from `origin` (n 3) enter primitives (n ...), in their frames; infinite, or beyond `limit`, for rays that miss."""
    squares, (linear, constant) = quadric[:, :3], quadric[:, 3:].unbind(dim = -1)

    # the box, by the slab method (Kay & Kajiya 1986)

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

    # a steep line intersects a cone once: the other root is on its mirror image

    steep, rising = a < 0, ray[:, 2] > 0
    first = torch.where(steep & rising, -torch.inf, first)
    second = torch.where(steep & ~rising, torch.inf, second)
    near, far = torch.maximum(near, first), torch.minimum(far, second)
    return torch.where((near < far) & (near > 1e-4), near, torch.inf)


