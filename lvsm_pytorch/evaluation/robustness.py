"""Robustness checks: how much views depend on the world frame, and how quality depends on the number of inputs."""

from __future__ import annotations

import warnings

import torch
from torch import Generator, Tensor

from lvsm_pytorch.data import Batch, Scene, cameras_of
from lvsm_pytorch.evaluation.index import Entry
from lvsm_pytorch.evaluation.metrics import score
from lvsm_pytorch.evaluation.protocol import Protocol
from lvsm_pytorch.geometry.cameras import pose
from lvsm_pytorch.geometry.view_selection import camera_distance, farthest_point_sampling
from lvsm_pytorch.seeds import seed_of

MOTIONS, FARTHEST = 3, 1.
NUMBERS_OF_INPUTS = 1, 2, 3, 4, 6, 8


def in_moved_worlds(protocol: Protocol, batch: Batch, before: Tensor) -> dict[str, float]:
    """Measures how much views change when the world of all cameras is rotated and shifted by 1 unit.

    Returns means over a few random motions, which depend on the scene's name only: the absolute difference of the views in units of 1/256, and
    PSNR after and before the motion.

    Args:
        protocol: Settings of the evaluation.
        batch: Batch of one scene.
        before: Views (1 t 3 h w) rendered without a motion.
    """
    name, = batch.names
    generator = Generator().manual_seed(seed_of(name))
    changes, psnrs = [], []

    for _ in range(MOTIONS):
        rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator = generator, dtype = torch.float64))
        offset = torch.randn(3, generator = generator, dtype = torch.float64)
        motion = pose(rotation * torch.linalg.det(rotation), offset / offset.norm() * FARTHEST)
        after = protocol.render(batch._replace(cameras = batch.cameras.to(torch.float64).transform(motion).to(torch.float32)))
        changes.append(float((after - before).abs().mean() * 256))
        psnrs.append(float(score(after, batch.target_images).psnr.mean()))

    return dict(change = sum(changes) / MOTIONS, psnr = sum(psnrs) / MOTIONS, psnr_before = float(score(before, batch.target_images).psnr.mean()))


def by_inputs(protocol: Protocol, scene: Scene, entry: Entry) -> dict[int, float]:
    """Returns the PSNR of the target views by number of input views, as far as the scene has enough views."""
    found = {}

    for count in NUMBERS_OF_INPUTS:
        context = context_of(scene, entry, count)

        if len(context) == count:
            batch = protocol.batch(scene, entry._replace(context = context))

            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # other numbers of inputs than in training are intended here
                found[count] = float(score(protocol.render(batch), batch.target_images).psnr.mean())

    return found


def context_of(scene: Scene, entry: Entry, count: int) -> tuple[int, ...]:
    """Chooses `count` input views for the targets of an entry, and returns their numbers.

    Up to the number of inputs of the entry, those nearest to the targets are chosen. Further ones are added by farthest point sampling, among the
    frames between the inputs of a video, or among the photos nearest to the targets.
    """
    numbered = scene.numbered()
    numbers = list(numbered)
    distance = camera_distance(cameras_of(list(numbered.values())).camera_to_world)
    places = {number: place for place, number in enumerate(numbers)}
    targets = [places[number] for number in entry.target]

    def from_targets(number: int) -> float:
        return float(distance[places[number], targets].mean())

    if count <= len(entry.context):
        return tuple(sorted(sorted(entry.context, key = from_targets)[:count]))

    others = [number for number in numbers if number not in (*entry.context, *entry.target)]
    pool = [number for number in others if min(entry.context) < number < max(entry.context)] if scene.is_video else sorted(others, key = from_targets)[:max(NUMBERS_OF_INPUTS)]
    taken = farthest_point_sampling(distance, [places[number] for number in entry.context], [places[number] for number in pool], count)
    return tuple(sorted(numbers[place] for place in taken))
