"""Selection of views by camera distance."""

from __future__ import annotations

import torch
from torch import Tensor


def camera_distance(camera_to_world: Tensor) -> Tensor:
    """Distances (n n) between cameras (n 4 4): between centres, over the median, plus the angle between optical axes in radians."""
    centres, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    distance = pairwise_distances(centres)
    angle = (forward @ forward.mT).clamp(-1, 1).acos()
    return distance / distance.median().clamp(min = 1e-12) + angle


def pairwise_distances(centres: Tensor) -> Tensor:
    """Distances (n n) between camera centres (n 3). Without matrix products, which lose precision far from the origin."""
    return torch.cdist(centres, centres, compute_mode = 'donot_use_mm_for_euclid_dist')


def nearest_views(camera_to_world: Tensor, target: Tensor, count: int) -> list[int]:
    """Indices of the `count` cameras (n 4 4) nearest to the target camera (4 4), the nearest first.

    The distance is that between centres over its median, plus the angle between optical axes over its median, both medians over the n cameras.
    """
    poses, target = camera_to_world.double(), target.double()
    distance = (poses[:, :3, 3] - target[:3, 3]).norm(dim = -1)
    angle = (poses[:, :3, 2] @ target[:3, 2]).clamp(-1, 1).acos()

    # if the median is almost 0, centres or axes are all the same and have no weight

    both = distance / distance.median().clamp(min = 1e-12) + angle / angle.median().clamp(min = 1e-3)
    return both.argsort(stable = True)[:count].tolist()


def spacings(centres: Tensor) -> Tensor:
    """Distances (n) from camera centres (n 3) to their nearest neighbours; infinite for a single camera."""
    return pairwise_distances(centres).fill_diagonal_(torch.inf).amin(dim = 1)


def evenly(length: int, count: int) -> list[int]:
    """`count` evenly spaced integers from 0 to `length`, both included; [0] for one."""
    return [round(length * part / max(count - 1, 1)) for part in range(count)]


def farthest_point_sampling(distance: Tensor, taken: list[int], pool: list[int], count: int) -> list[int]:
    """Extends `taken` to `count` indices, each time by the one of `pool` that is farthest from all taken.

    Args:
        distance: (n n).
    """
    taken, left = list(taken), [number for number in pool if number not in taken]

    while len(taken) < count and left:
        farthest = max(left, key = lambda number: float(distance[number, taken].min()))
        left.remove(farthest)
        taken.append(farthest)

    return taken
