"""Which of some cameras: by their distances."""

from __future__ import annotations

import torch
from torch import Tensor


def camera_distance(camera_to_world: Tensor) -> Tensor:
    """How far apart cameras (n 4 4) are, (n n): between centres, in units of the median distance, plus the angle between their views in radians."""
    centres, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    distance = pairwise_distances(centres)
    angle = (forward @ forward.mT).clamp(-1, 1).acos()
    return distance / distance.median().clamp(min = 1e-12) + angle


def pairwise_distances(centres: Tensor) -> Tensor:
    """Distances (n n) between camera centres (n 3). Not by products of matrices, which lose all digits of a world far from its origin."""
    return torch.cdist(centres, centres, compute_mode = 'donot_use_mm_for_euclid_dist')


def nearest_views(camera_to_world: Tensor, target: Tensor, count: int) -> list[int]:
    """Numbers of so many cameras (n 4 4) that are nearest to the target camera (4 4), the nearest first.

    By the distance of the centres over its median, plus the angle between the optical axes over its median; both medians are over the n cameras.
    """
    poses, target = camera_to_world.double(), target.double()
    distance = (poses[:, :3, 3] - target[:3, 3]).norm(dim = -1)
    angle = (poses[:, :3, 2] @ target[:3, 2]).clamp(-1, 1).acos()
    # a median of almost 0 says that centres, or axes, are the same: then they don't count
    both = distance / distance.median().clamp(min = 1e-12) + angle / angle.median().clamp(min = 1e-3)
    return both.argsort(stable = True)[:count].tolist()


def spacings(centres: Tensor) -> Tensor:
    """Distances (n) from camera centres (n 3) to the nearest other one, infinite where there is none."""
    return pairwise_distances(centres).fill_diagonal_(torch.inf).amin(dim = 1)


def evenly(length: int, count: int) -> list[int]:
    """So many numbers from 0 to `length`, evenly, both too; of one, 0."""
    return [round(length * part / max(count - 1, 1)) for part in range(count)]


def farthest_point_sampling(distance: Tensor, taken: list[int], pool: list[int], count: int) -> list[int]:
    """Those that are taken and, until there are so many or none is left, of a pool the farthest from all of them.

    Args:
        distance: (n n).
    """
    taken, left = list(taken), [number for number in pool if number not in taken]

    while len(taken) < count and left:
        farthest = max(left, key = lambda number: float(distance[number, taken].min()))
        left.remove(farthest)
        taken.append(farthest)

    return taken
