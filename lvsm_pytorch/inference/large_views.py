"""Rendering of views larger than in training, in bounded memory.

Far above the training size, rendering is worse than upscaling a smaller view. Views are therefore rendered at the training size and upscaled.
Models with a plane sweep of features render at twice the training size, since they gain from photos encoded at that size. A view longer than
a tile along one axis is rendered in overlapping tiles: each is the view of a camera with a shifted principal point. The figures are in
docs/guides/films.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.geometry.cameras import Cameras, crop_intrinsics, scale_intrinsics
from lvsm_pytorch.inference.pipeline import EncodedPhotos
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size
from lvsm_pytorch.lvsm.views import whole_patches

Size = tuple[int, int]    # (height, width) in pixels

TILE_SCALE = 2    # size of a tile, in units of the training size
OVERLAP = 1 / 8    # minimum overlap of neighbouring tiles, as a fraction of a tile


def tile_size(model: LVSM) -> Size:
    """Returns the size of the largest view that is rendered in one piece."""
    height, width = (TILE_SCALE * length for length in default_size(model))
    return height, width


def best_scale(model: LVSM) -> int:
    """Returns the largest size at which views are rendered, as a multiple of the training size."""
    return 2 if model.plane_sweep.knows_distances else 1


def rendered_size(model: LVSM, size: Size) -> Size:
    """Returns the size at which a view of `size` is rendered: `size` itself, or if both axes exceed the best size, `size` scaled down until one fits."""
    scale = min(1., max(best_scale(model) * own / length for own, length in zip(default_size(model), size, strict = True)))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def input_size_for(model: LVSM, size: Size) -> Size:
    """Returns the size at which photos are encoded for views of `size`: the training size, scaled up with the view to at most `best_scale`."""
    trained = default_size(model)
    scale = min(max(min(length / own for length, own in zip(size, trained, strict = True)), 1.), best_scale(model))
    height, width = (whole_patches(round(length * scale), model.patch_size) for length in trained)
    return height, width


def what_to_expect(model: LVSM, size: Size) -> str | None:
    """Describes how a view larger than in training is rendered; returns None for smaller views."""
    trained = default_size(model)

    if size[0] <= trained[0] and size[1] <= trained[1]:
        return None

    rendered = rendered_size(model, size)
    tiles = len(starts(rendered[0], tile_size(model)[0])) * len(starts(rendered[1], tile_size(model)[1]))
    in_tiles = f' in {tiles} tiles' if tiles > 1 else ''
    enlarged = ' and enlarged, so expect less detail than in a photo of this size' if rendered != size else ''
    return f'{in_words(size)} is larger than in training ({in_words(trained)}): photos are encoded at {in_words(input_size_for(model, size))}, views rendered at {in_words(rendered)}{in_tiles}{enlarged}'


def in_words(size: Size) -> str:
    return f'{size[1]} × {size[0]}'


def render_view(encoded: EncodedPhotos, camera: Cameras, size: Size) -> Tensor:
    """Renders a view (c h w) in [0, 1] of any size from one camera, with the memory of one tile.

    Args:
        encoded: Encoded photos.
        camera: (4 4) and (3 3), in the world of the photos, intrinsics in pixels of `size`.
        size: (height, width) in pixels.
    """
    def render(tile: Cameras, size: Size) -> Tensor:
        return next(encoded.render(tile[None], size))[0]

    rendered = rendered_size(encoded.model, size)
    camera = Cameras(camera.camera_to_world, scale_intrinsics(camera.intrinsics, size, rendered))
    view = render_tiled(render, camera, rendered, tile_size(encoded.model))
    return view if rendered == size else F.interpolate(view.unsqueeze(0), size, mode = 'bicubic').clamp(0, 1)[0]


def render_tiled(render: Callable[[Cameras, Size], Tensor], camera: Cameras, size: Size, tile: Size) -> Tensor:
    """Renders a view (c h w) in tiles, and blends them where they overlap.

    Args:
        render: Function that renders the view (c h w) of one camera, (4 4) and (3 3), at a size.
        camera: Camera with intrinsics in pixels of `size`.
        size: (height, width) of the view in pixels.
        tile: Maximum (height, width) of a tile in pixels.
    """
    height, width = (min(lengths) for lengths in zip(size, tile, strict = True))
    tops, lefts = starts(size[0], tile[0]), starts(size[1], tile[1])
    view = total = None

    for top in tops:
        for left in lefts:
            part = render(Cameras(camera.camera_to_world, crop_intrinsics(camera.intrinsics, top, left)), (height, width))

            if len(tops) * len(lefts) == 1:
                return part

            view = part.new_zeros(len(part), *size) if view is None else view
            total = part.new_zeros(size) if total is None else total
            weight = rearrange(ramps(top, tops, height), 'h -> h 1') * ramps(left, lefts, width)
            weight = weight.to(part)
            view[:, top:top + height, left:left + width] += weight * part
            total[top:top + height, left:left + width] += weight

    assert view is not None
    assert total is not None
    return view / total


def starts(length: int, tile: int) -> list[int]:
    """Returns the first pixels of evenly spaced tiles that cover `length` pixels."""
    if length <= tile:
        return [0]

    overlap = math.ceil(OVERLAP * tile)
    gaps = math.ceil((length - tile) / max(tile - overlap, 1))
    return [round(number * (length - tile) / gaps) for number in range(gaps + 1)]


def ramps(start: int, all_starts: list[int], tile: int) -> Tensor:
    """Returns blending weights (tile) of a tile along one axis: ramps from 0 to 1 over the overlaps with its neighbours, 1 elsewhere."""
    weight, pixels = torch.ones(tile), torch.arange(tile) + 0.5
    number = all_starts.index(start)

    if number > 0:
        weight = weight.minimum(pixels / (all_starts[number - 1] + tile - start))

    if number < len(all_starts) - 1:
        weight = weight.minimum((tile - pixels) / (start + tile - all_starts[number + 1]))

    return weight
