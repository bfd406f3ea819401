"""Which views of a scene make a training sample."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from lvsm_pytorch.geometry.view_selection import nearest_views

# chance that inputs are the nearest views and not just near ones; and where they are not, how far their ranks are moved, as a share of how many there are

NEAREST, SHUFFLED = 0.5, 0.6


def draw_nearest_views(camera_to_world: Tensor, *, num_inputs: int, num_targets: int, generator: Generator, target: int | None = None) -> list[int]:
    """A target, inputs that are nearest to it or just near, and further targets among those next to them.

    Args:
        camera_to_world: (n 4 4), of the views.
        num_inputs: Fewer than n.
        num_targets: With more than there are views left, some are inputs too.
        target: Number of the first target; drawn by default.

    Returns:
        Numbers of views, inputs first.
    """
    n = len(camera_to_world)
    target = int(torch.randint(n, (), generator = generator)) if target is None else target
    most = max(4 * num_inputs, num_inputs + num_targets + 2)
    order = [index for index in nearest_views(camera_to_world, camera_to_world[target], n) if index != target][:most]

    if not happens(NEAREST, generator):
        rank = torch.arange(len(order)) + SHUFFLED * len(order) * torch.rand(len(order), generator = generator)
        order = [order[index] for index in rank.argsort()]

    further = order[num_inputs:num_inputs + max(3, num_targets - 1)] or order
    chosen = torch.randperm(len(further), generator = generator).tolist()
    further = [further[index] for index in chosen] + order[:num_inputs]
    return order[:num_inputs] + [target] + [further[index % len(further)] for index in range(num_targets - 1)]


def draw_video_views(total: int, *, num_inputs: int, num_targets: int, frame_distances: tuple[int, int], generator: Generator) -> list[int]:
    """A stretch of a video: its ends and frames between them as inputs, and any of it as targets, inputs too.

    Args:
        total: Frames of the video, more than `num_inputs`.
        frame_distances: Least and most frames from the first to the last; fewer where the video is shorter.

    Returns:
        Numbers of frames, inputs first.
    """
    def draw(count: int, of: int) -> list[int]:
        return torch.randperm(of, generator = generator)[:count].tolist()

    def between(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator = generator))

    least, most = (max(min(distance, total - 1), num_inputs - 1) for distance in frame_distances)
    length = between(least, most)
    first = between(0, total - 1 - length)
    inner = sorted(1 + index for index in draw(max(num_inputs - 2, 0), length - 1))
    inputs = [first, *(first + index for index in inner), first + length] if num_inputs > 1 else [first + between(0, length)]
    targets = draw(num_targets, length + 1)
    return inputs + [first + targets[index % len(targets)] for index in range(num_targets)]


def happens(chance: float, generator: Generator) -> bool:
    return float(torch.rand((), generator = generator)) < chance


def uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator = generator))


def log_uniform(low: float, high: float, generator: Generator) -> float:
    return math.exp(uniform(math.log(low), math.log(high), generator))
