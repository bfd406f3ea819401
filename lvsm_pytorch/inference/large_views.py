"""Views larger than those of training, in bounded memory.

A model that goes far beyond its training is worse than one whose view is enlarged: views are rendered at the size of training, or twice that
with a plane sweep of features, which gains from photos that are encoded as large. What is longer than a tile along one axis is rendered in
tiles, which overlap: each is the view of a camera with a shifted principal point. The figures are in docs/guides/films.md.
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

TILE_SCALE = 2    # of a tile, by the size of training
OVERLAP = 1 / 8    # of a tile, at least


def tile_size(model: LVSM) -> Size:
    """The largest view that is rendered at once."""
    height, width = (TILE_SCALE * length for length in default_size(model))
    return height, width


def best_scale(model: LVSM) -> int:
    """How many times the size of training views are rendered at, at most."""
    return 2 if model.plane_sweep.knows_distances else 1


def rendered_size(model: LVSM, size: Size) -> Size:
    """At which a view of `size` is rendered: as it is, if along one axis at least it is no longer than is best; else smaller."""
    scale = min(1., max(best_scale(model) * own / length for own, length in zip(default_size(model), size, strict = True)))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def input_size_for(model: LVSM, size: Size) -> Size:
    """At which photos are encoded for views of `size`: that of training, or as many times as large as the view is."""
    trained = default_size(model)
    scale = min(max(min(length / own for length, own in zip(size, trained, strict = True)), 1.), best_scale(model))
    height, width = (whole_patches(round(length * scale), model.patch_size) for length in trained)
    return height, width


def what_to_expect(model: LVSM, size: Size) -> str | None:
    """Of views larger than in training; None of others."""
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
    """The view (c h w) of one camera, in [0, 1], of any size, in the memory of one tile.

    Args:
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
    """The view (c h w) of a camera, rendered in tiles that are blended where they overlap.

    Args:
        render: The view of one camera, (4 4) and (3 3), at a size.
        camera: With intrinsics in pixels of `size`.
        size: (height, width) of the view.
        tile: (height, width) at most of what is rendered at once.
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
    """Where tiles begin that cover so many pixels, evenly."""
    if length <= tile:
        return [0]

    overlap = math.ceil(OVERLAP * tile)
    gaps = math.ceil((length - tile) / max(tile - overlap, 1))
    return [round(number * (length - tile) / gaps) for number in range(gaps + 1)]


def ramps(start: int, all_starts: list[int], tile: int) -> Tensor:
    """Weights (tile) of a tile's pixels along one axis: from 0 to 1 over what it shares with a neighbour, 1 elsewhere."""
    weight, pixels = torch.ones(tile), torch.arange(tile) + 0.5
    number = all_starts.index(start)

    if number > 0:
        weight = weight.minimum(pixels / (all_starts[number - 1] + tile - start))

    if number < len(all_starts) - 1:
        weight = weight.minimum((tile - pixels) / (start + tile - all_starts[number + 1]))

    return weight
