"""Sampling of the input views and target views of training samples."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from lvsm_pytorch.geometry.view_selection import nearest_views

# probability that inputs are exactly the views nearest to the target; and otherwise the maximum shift of their ranks, as a fraction of the number of candidates

NEAREST, SHUFFLED = 0.5, 0.6


def draw_nearest_views(camera_to_world: Tensor, *, num_inputs: int, num_targets: int, generator: Generator, target: int | None = None) -> list[int]:
    """Draws a target, inputs among the views nearest to it, and further targets among the next nearest views.

    Args:
        camera_to_world: Poses (n 4 4) of the views.
        num_inputs: Number of inputs, fewer than n.
        num_targets: Number of targets. If too few views are left, some targets are also inputs.
        generator: Random generator.
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
    """Draws a clip of a video: its ends and frames between them as inputs, and any of its frames, inputs included, as targets.

    Args:
        total: Number of frames of the video, more than `num_inputs`.
        num_inputs: Number of inputs.
        num_targets: Number of targets.
        frame_distances: Minimum and maximum number of frames from the first to the last frame of the clip; fewer if the video is shorter.
        generator: Random generator.

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
