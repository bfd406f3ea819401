"""Selection of views by distances between cameras."""

from __future__ import annotations

import torch
from torch import Tensor


def camera_distance(camera_to_world: Tensor) -> Tensor:
    """Returns distances (n n) between cameras (n 4 4): the distance between centres, divided by the median, plus the angle between optical axes in radians."""
    centres, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    distance = pairwise_distances(centres)
    angle = (forward @ forward.mT).clamp(-1, 1).acos()
    return distance / distance.median().clamp(min = 1e-12) + angle


def pairwise_distances(centres: Tensor) -> Tensor:
    """Returns distances (n n) between camera centres (n 3), without matrix products, which lose precision far from the origin."""
    return torch.cdist(centres, centres, compute_mode = 'donot_use_mm_for_euclid_dist')


def nearest_views(camera_to_world: Tensor, target: Tensor, count: int) -> list[int]:
    """Returns the indices of the `count` cameras (n 4 4) nearest to the target camera (4 4), nearest first.

    The distance is that between centres divided by its median, plus the angle between optical axes divided by its median, both medians over the n cameras.
    """
    poses, target = camera_to_world.double(), target.double()
    distance = (poses[:, :3, 3] - target[:3, 3]).norm(dim = -1)
    angle = (poses[:, :3, 2] @ target[:3, 2]).clamp(-1, 1).acos()

    # if a median is almost 0, all centres or axes are the same and have no weight

    both = distance / distance.median().clamp(min = 1e-12) + angle / angle.median().clamp(min = 1e-3)
    return both.argsort(stable = True)[:count].tolist()


def spacings(centres: Tensor) -> Tensor:
    """Returns distances (n) from camera centres (n 3) to their nearest neighbours; infinite for a single camera."""
    return pairwise_distances(centres).fill_diagonal_(torch.inf).amin(dim = 1)


def evenly(length: int, count: int) -> list[int]:
    """Returns `count` evenly spaced integers from 0 to `length`, both included; [0] for one."""
    return [round(length * part / max(count - 1, 1)) for part in range(count)]


def farthest_point_sampling(distance: Tensor, taken: list[int], pool: list[int], count: int) -> list[int]:
    """Extends `taken` to `count` indices by farthest point sampling: each step adds the index of `pool` that is farthest from all taken ones.

    Args:
        distance: Distances (n n).
        taken: Initial indices.
        pool: Indices to choose from.
        count: Number of indices to return.
    """
    taken, left = list(taken), [number for number in pool if number not in taken]

    while len(taken) < count and left:
        farthest = max(left, key = lambda number: float(distance[number, taken].min()))
        left.remove(farthest)
        taken.append(farthest)

    return taken
