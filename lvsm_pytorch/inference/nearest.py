"""Rendering of a scene of many photos, with the nearest photos of each view as its inputs."""

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
    """Input sets of a view, which is the weighted mean of the renderings from them.

    Attributes:
        inputs: Numbers of the photos of each set.
        weights: Weights of the sets, which sum to 1.
    """
    inputs: list[tuple[int, ...]]
    weights: list[float]


class NearestPhotos:
    """Renderer of a scene of many photos, which uses the photos nearest to each camera as inputs.

    Along a path, the renderings of consecutive input sets are crossfaded, so that a video does not jump where the inputs change.

    Args:
        model: Model to render with.
        photos: All photos of the scene, at the size at which they are encoded.
        num_inputs: Number of input photos of a view.
        fade: Number of frames before and after a change of inputs that are crossfaded.
        unit: As in `encode_photos`.
        input_attends_target: As in `encode_photos`.
    """

    KEPT = 8  # size of the cache of encoded input sets

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
        """Returns the numbers of the nearest readable photos for a camera (4 4), in ascending order.

        Args:
            camera_to_world: Pose (4 4) of the camera, in the world of the photos.
            read: Read photos to find out whether they are readable. Otherwise only photos that failed before are left out.

        Raises:
            BadView: If no photo is readable.
        """
        nearest = nearest_views(self.poses, camera_to_world, len(self.poses))
        usable = (number for number in nearest if number not in self.photos.bad and (not read or self.photos.read(number) is not None))
        chosen = [number for number, _ in zip(usable, range(self.num_inputs), strict = False)]

        if not chosen:
            fail(self.photos.scene.name, 'must have a photo that can be read', f'none of {len(self.poses)}', self.photos.problems.summary(most = 5), BadView)

        return tuple(sorted(chosen))

    def weighted_inputs(self, camera_to_world: Tensor) -> list[WeightedInputs]:
        """Returns the input sets of each camera of a path (n 4 4): those of the frames within `fade`, weighted by how many of these frames use them."""
        of_frames = [self.inputs_for(pose) for pose in camera_to_world]
        sets = sorted(set(of_frames))
        chosen = F.one_hot(torch.tensor([sets.index(inputs) for inputs in of_frames]), len(sets)).double()
        padded = F.pad(chosen.mT.unsqueeze(0), (self.fade, self.fade), mode = 'replicate')
        weights = F.avg_pool1d(padded, 2 * self.fade + 1, stride = 1)[0].mT
        return [WeightedInputs([sets[index] for index in each.nonzero()[:, 0]], each[each > 0].tolist()) for each in weights]

    def render(self, cameras: Cameras, size: tuple[int, int], frames: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Yields the views (3 h w) in [0, 1] of a path of cameras (n ...).

        Args:
            cameras: Cameras in the world of the photos, intrinsics in pixels of `size`.
            size: (height, width) in pixels.
            frames: Numbers of the frames to render. By default all.
        """
        of_path = self.weighted_inputs(cameras.camera_to_world)

        for frame in range(len(of_path)) if frames is None else frames:
            inputs, weights = of_path[frame]
            yield weighted_view([self.encoded(each) for each in inputs], weights, cameras[frame], size)


def weighted_view(encoded: Sequence[EncodedPhotos], weights: Sequence[float], camera: Cameras, size: tuple[int, int]) -> Tensor:
    """Renders a camera from several sets of photos, and returns the weighted mean (3 h w) of the views.

    Args:
        encoded: Encoded photos of each set.
        weights: Weights of the sets, which sum to 1.
        camera: (4 4) and (3 3), in the world of the photos, intrinsics in pixels of `size`.
        size: (height, width) in pixels.
    """
    views = (weight * render_view(each, camera, size) for each, weight in zip(encoded, weights, strict = True))
    return torch.stack(list(views)).sum(dim = 0)
