"""A reference of the plane sweep: every point by itself, in the world as it is, and its four pixels by hand."""

from __future__ import annotations

import torch

from lvsm_pytorch.lvsm.conditioning.plane_sweep import LEAST_SPREAD, SweepVolume


def plain_sweep_volume(images, cameras, target_directions, target_centres, depths, nearest, is_known = None) -> SweepVolume:
    """images: (b v c h w). cameras: (b v ...). target_directions: (b t 3 h w), target_centres: (b t 3). All in float64."""
    images, directions, centres = images.double(), target_directions.double(), target_centres.double()
    b, v, c, *_ = images.shape
    t, (height, width) = directions.shape[1], directions.shape[-2:]
    colors, spread, share = (torch.zeros(b, t, depths, n, height, width, dtype = torch.float64) for n in (c, 1, 1))

    for scene in range(b):
        views = [view for view in range(v) if is_known is None or is_known[scene, view]]
        poses, intrinsics = (each[scene].double() for each in cameras)

        for target in range(t):
            for depth in range(depths):
                seen = []

                for view in views:
                    way = directions[scene, target].flatten(1)
                    if depth > 0:  # else it is infinitely far, where the way is the direction alone
                        way = way * nearest * (depths - 1) / depth + (centres[scene, target] - poses[view, :3, 3]).unsqueeze(1)
                    x, y, z = intrinsics[view] @ poses[view, :3, :3].T @ way
                    in_front = z > 0
                    seen.append(four_pixels(images[scene, view], torch.where(in_front, x / z, -9.), torch.where(in_front, y / z, -9.)))

                premultiplied, weights = (torch.stack(each) for each in zip(*seen, strict = True))
                own = premultiplied / weights.clamp(min = 1e-12)
                mean = premultiplied.sum(0) / weights.sum(0).clamp(min = 1e-12)
                variance = (weights * (own - mean) ** 2).sum(0) / weights.sum(0).clamp(min = 1e-12)
                colors[scene, target, depth] = mean.unflatten(-1, (height, width))
                spread[scene, target, depth] = variance.mean(0).sqrt().clamp(min = LEAST_SPREAD).reshape(1, height, width)
                share[scene, target, depth] = (weights.sum(0) / len(views)).reshape(1, height, width)

    return SweepVolume(colors, spread, share)


def four_pixels(image, x, y):
    """Colours (c n) at places x, y (n), in pixels, times how much of them is within the image; and that, (1 n)."""
    _, height, width = image.shape
    left, top = (x - 0.5).floor(), (y - 0.5).floor()
    color, weight = torch.zeros(len(image), len(x), dtype = image.dtype), torch.zeros(1, len(x), dtype = image.dtype)

    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        part = (1 - (x - 0.5 - column).abs()) * (1 - (y - 0.5 - row).abs())
        part = part * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
        color += part * image[:, row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()]
        weight += part

    return color, weight
