"""Of many photos, for each view those that are nearest to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.data.scene import cameras_of
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.view_selection import nearest_views
from lvsm_pytorch.inference.large_views import render_view
from lvsm_pytorch.inference.pipeline import EncodedPhotos, encode_photos
from lvsm_pytorch.inference.scenes import FittedViews
from lvsm_pytorch.lvsm.model import LVSM


class WeightedInputs(NamedTuple):
    """One view is the mean of renderings from several sets of photos.

    Attributes:
        inputs: Their numbers, for each set.
        weights: Of the sets, together 1.
    """
    inputs: list[tuple[int, ...]]
    weights: list[float]


class NearestPhotos:
    """A scene of many photos, rendered from those nearest to each camera. Along a path, one set fades into the next: no film jumps where the photos change.

    Args:
        model: The model.
        photos: All photos of the scene, as they are given to the model.
        num_inputs: Photos that a view is rendered from.
        fade: Frames before and after a change of photos over which they fade.
        unit: As of `encode_photos`.
        input_attends_target: As of `encode_photos`.
    """

    KEPT = 8  # encoded sets

    def __init__(self, model: LVSM, photos: FittedViews, num_inputs: int, *, fade: int = 4, unit: float | None = None, input_attends_target: bool | None = None):
        self.model = model
        self.photos = photos
        self.fade = fade
        self.unit = unit
        self.input_attends_target = input_attends_target
        self.poses = cameras_of(photos.scene.views).camera_to_world
        self.num_inputs = min(num_inputs, len(self.poses))
        self.encoded = lru_cache(maxsize = self.KEPT)(self.encode)

    def encode(self, inputs: tuple[int, ...]) -> EncodedPhotos:
        return encode_photos(self.model, *self.photos.of(inputs), input_size = self.photos.size, unit = self.unit, input_attends_target = self.input_attends_target)

    def inputs_for(self, camera_to_world: Tensor, *, read: bool = True) -> tuple[int, ...]:
        """Numbers of the photos for a camera (4 4), rising: of the nearest ones those that can be read.

        Args:
            read: Find out which can be read; else those are left out that are known not to be.

        Raises:
            BadView: Where none can be read.
        """
        nearest = nearest_views(self.poses, camera_to_world, len(self.poses))
        usable = (number for number in nearest if number not in self.photos.bad and (not read or self.photos.read(number) is not None))
        chosen = [number for number, _ in zip(usable, range(self.num_inputs), strict = False)]

        if not chosen:
            fail(self.photos.scene.name, 'must have a photo that can be read', f'none of {len(self.poses)}', self.photos.problems.summary(most = 5), BadView)

        return tuple(sorted(chosen))

    def weighted_inputs(self, camera_to_world: Tensor) -> list[WeightedInputs]:
        """For each camera of a path (n 4 4): the photos of the frames around it, by how many of them have these."""
        of_frames = [self.inputs_for(pose) for pose in camera_to_world]
        sets = sorted(set(of_frames))
        chosen = F.one_hot(torch.tensor([sets.index(inputs) for inputs in of_frames]), len(sets)).double()
        padded = F.pad(chosen.mT.unsqueeze(0), (self.fade, self.fade), mode = 'replicate')
        weights = F.avg_pool1d(padded, 2 * self.fade + 1, stride = 1)[0].mT
        return [WeightedInputs([sets[index] for index in each.nonzero()[:, 0]], each[each > 0].tolist()) for each in weights]

    def render(self, cameras: Cameras, size: tuple[int, int], frames: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Views (3 h w) in [0, 1] of the cameras (n ...) of a path, one after the other.

        Args:
            cameras: In the world of the photos, intrinsics in pixels of `size`.
            size: (height, width) in pixels.
            frames: Numbers of the frames to render; all by default.
        """
        of_path = self.weighted_inputs(cameras.camera_to_world)

        for frame in range(len(of_path)) if frames is None else frames:
            inputs, weights = of_path[frame]
            yield weighted_view([self.encoded(each) for each in inputs], weights, cameras[frame], size)


def weighted_view(encoded: Sequence[EncodedPhotos], weights: Sequence[float], camera: Cameras, size: tuple[int, int]) -> Tensor:
    """The mean (3 h w) of one camera's views from several sets of photos.

    Args:
        weights: Of the sets, together 1.
        camera: (4 4) and (3 3), in the world of the photos, intrinsics in pixels of `size`.
        size: (height, width) in pixels.
    """
    views = (weight * render_view(each, camera, size) for each, weight in zip(encoded, weights, strict = True))
    return torch.stack(list(views)).sum(dim = 0)
