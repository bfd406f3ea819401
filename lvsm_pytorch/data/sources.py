"""Batches of input views and target views, and the base class of the sources of training samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor

from lvsm_pytorch.data.images import as_size, in_unit
from lvsm_pytorch.data.recent import Recent
from lvsm_pytorch.data.synthetic import synthetic_scenes
from lvsm_pytorch.geometry.cameras import Cameras, crop_intrinsics
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.geometry.rays import plucker_rays


class Batch(NamedTuple):
    """Input views and target views, with their cameras. Rays are computed from the cameras on access.

    Attributes:
        images: (b v+t 3 h w), float in [0, 1] or uint8, inputs first.
        cameras: (b v+t ...), inputs first, in the frame of the rays.
        names: Name of each of the b samples, that of its target.
        num_inputs: Number of input views, v.
        depth_range: (b 2), near and far distance of depth planes, or None.
        distances: (b v+t h w), true distances along the rays of pixels; None if they are unknown.
    """
    images: Tensor
    cameras: Cameras
    names: list[str]
    num_inputs: int
    depth_range: Tensor | None = None
    distances: Tensor | None = None

    @property
    def input_images(self) -> Tensor:
        """Images of the input views (b v 3 h w) in [0, 1]."""
        return in_unit(self.images[:, :self.num_inputs])

    @property
    def target_images(self) -> Tensor:
        """Images of the target views (b t 3 h w) in [0, 1]."""
        return in_unit(self.images[:, self.num_inputs:])

    @property
    def input_rays(self) -> Tensor:
        """Plücker rays of the input views (b v 6 h w), computed from the cameras in float32."""
        return plucker_rays(*self.cameras[:, :self.num_inputs], image_size = (self.images.shape[-2], self.images.shape[-1]))

    @property
    def target_rays(self) -> Tensor:
        """Plücker rays of the target views (b t 6 h w), computed from the cameras in float32."""
        return plucker_rays(*self.cameras[:, self.num_inputs:], image_size = (self.images.shape[-2], self.images.shape[-1]))

    @property
    def target_distances(self) -> Tensor | None:
        """True distances along the rays of the target views (b t h w); None if they are unknown."""
        return None if self.distances is None else self.distances[:, self.num_inputs:]

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of `LVSM.forward` for rendering: images and rays of the inputs, rays of the targets, cameras and depth range."""
        return dict(input_images = self.input_images, input_rays = self.input_rays, target_rays = self.target_rays, cameras = self.cameras, depth_range = self.depth_range)

    def to(self, device: torch.device) -> Batch:
        return self.map(lambda t: t.to(device, non_blocking = True))

    def samples(self, some: slice) -> Batch:
        """Returns a slice of the b samples."""
        return self.map(lambda t: t[some])._replace(names = self.names[some])

    def map(self, function: Callable[[Any], Any]) -> Batch:
        """Applies a function to all tensors and to the cameras."""
        images, cameras, depth_range, distances = (None if t is None else function(t) for t in (self.images, self.cameras, self.depth_range, self.distances))
        return self._replace(images = images, cameras = cameras, depth_range = depth_range, distances = distances)


# 'scene': all samples of a scene have the same world frame, which the model may memorise, as it should for a single scene.
# 'inputs': in each sample the mean input camera is the identity. In both, a scene has one unit of length: with a unit from
# the cameras of each sample, the size of a scene would vary between samples, which is much harder to learn.

Frame = Literal['scene', 'inputs']


class Source(ABC):
    """Base class of sources of samples. A source has an endless sequence of numbered training samples, so that a run can resume at any of them, and held-out samples.

    Args:
        num_inputs: Number of input views of a sample.
        num_targets: Number of target views of a training sample.
        random_num_inputs: Minimum and maximum number of input views of a training sample, drawn for each step; None for `num_inputs`.
        samples_per_step: Number of consecutive training samples with the same number of input views.
        frame: Frame of the rays.
        seed: Seed of all random draws.

    Attributes:
        description: Short description of the data.
        scale: 'depth' if the unit of length is determined by the distance of the scene, 'cameras' if by the cameras or if it is the same for all scenes.
        unit: Length in the scenes' worlds that becomes 1 in all samples; None if each scene has its own.
        world: For one scene, the similarity (4 4) from its world to the frame 'scene'; otherwise None.
    """
    description: str
    scale: str = 'cameras'
    unit: float | None = None
    world: Tensor | None = None

    def __init__(self, *, num_inputs: int, num_targets: int, random_num_inputs: tuple[int, int] | None = None, samples_per_step: int = 1, frame: Frame = 'inputs', seed: int = 0):
        self.num_inputs = num_inputs
        self.num_targets = num_targets
        self.random_num_inputs = (num_inputs, num_inputs) if random_num_inputs is None else random_num_inputs
        self.samples_per_step = samples_per_step
        self.frame: Frame = frame
        self.seed = seed

    @abstractmethod
    def sample(self, number: int) -> Batch:
        """Returns the training sample of a number as a batch of b = 1, in the frame and unit of its scene."""

    @abstractmethod
    def held_out(self) -> Batch:
        """Returns a batch of held-out samples, which are never used for training, with one target each, in the frame of the rays."""

    def share(self, folder: Path | None) -> None:  # noqa: B027, since most sources compute nothing that takes long
        """Lets workers share results of slow computations through files in a folder; None stops sharing."""

    def collate(self, samples: Sequence[Batch]) -> Batch:
        """Collates samples to a batch, in the frame of the rays."""
        cameras, num_inputs = Cameras.cat([sample.cameras for sample in samples]), samples[0].num_inputs

        if self.frame == 'inputs':
            cameras = cameras.transform(normalize_poses(cameras.camera_to_world[:, :num_inputs], unit = 1.).similarity[:, None])

        def joined(parts: list[Any]) -> Any:
            return None if any(part is None for part in parts) else torch.cat(parts)

        images, depth_range, distances = (joined([getattr(sample, name) for sample in samples]) for name in ('images', 'depth_range', 'distances'))
        return Batch(images, cameras, [name for sample in samples for name in sample.names], num_inputs, depth_range, distances)

    def training_batch(self, step: int, batch_size: int) -> Batch:
        """Returns the batch of a training step."""
        return self.collate([self.sample(step * batch_size + index) for index in range(batch_size)])

    def draw_num_inputs(self, number: int) -> int:
        """Draws the number of input views of a training sample, which is the same for all samples of a step."""
        least, most = self.random_num_inputs
        return least if least == most else int(torch.randint(least, most + 1, (), generator = self.generator(-1 - number // self.samples_per_step)))

    @property
    def max_num_inputs(self) -> int:
        """Maximum number of input views of a sample."""
        return max(self.num_inputs, self.random_num_inputs[1])

    def generator(self, number: int) -> Generator:
        """Returns the random generator of a sample."""
        return Generator().manual_seed(self.seed * 1_000_003 + number)


class SyntheticSource(Source):
    """Source of built-in scenes, one for each seed. The scene of a sample is drawn from a window of seeds that moves with the samples, so that each scene is rendered once.

    Args:
        image_size: Height and width in pixels, one number or two. Rectangular images are centre crops of square ones.
        options: Options of `Source`.
    """

    NUM_HELD_OUT = 64
    FIRST_TRAINING_SEED = 1_000
    WINDOW = 128
    SAMPLES_PER_SCENE = 48
    description = 'built-in synthetic scenes, without end'
    UNIT = 3.  # about the distance from the cameras to the solids
    unit = UNIT

    def __init__(self, *, image_size: int | tuple[int, int], **options: Any):
        super().__init__(**options)
        self.size = as_size(image_size)
        self.num_views = max(6, self.max_num_inputs + self.num_targets)
        self.scene = Recent(self.render_scene, 2 * self.WINDOW)

    def render_scene(self, seed: int) -> tuple[Tensor, Cameras]:
        images, cameras = synthetic_scenes([seed], num_views = self.num_views, image_size = max(self.size))
        cameras.camera_to_world[..., :3, 3] /= self.UNIT
        return middle_of(images[0], self.size), middle_cameras(cameras[0], self.size)

    def sample(self, number: int) -> Batch:
        generator = self.generator(number)
        window = self.FIRST_TRAINING_SEED + self.seed * 10_000_019 + number // self.SAMPLES_PER_SCENE
        seed = window + int(torch.randint(self.WINDOW, (), generator = generator))
        num_inputs = self.draw_num_inputs(number)
        return self.views(seed, torch.randperm(self.num_views, generator = generator)[:num_inputs + self.num_targets], num_inputs)

    def held_out(self, most: int = NUM_HELD_OUT) -> Batch:
        """Returns a batch of scenes of seeds that are never used for training."""
        return self.collate([self.views(seed, torch.arange(self.num_inputs + 1), self.num_inputs) for seed in range(most)])

    def views(self, seed: int, indices: Tensor, num_inputs: int) -> Batch:
        images, cameras = self.scene(seed)
        return Batch(images[indices].unsqueeze(0), cameras[indices][None], [f'scene {seed}'], num_inputs)


def middle_of(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Centre-crops square images (... n n) to (... h w)."""
    top, left = ((images.shape[-1] - length) // 2 for length in size)
    return images[..., top:top + size[0], left:left + size[1]]


def middle_cameras(cameras: Cameras, size: tuple[int, int]) -> Cameras:
    """Returns the cameras of centre crops (`middle_of`) of squares as long as the longer side of `size`."""
    top, left = ((max(size) - length) // 2 for length in size)
    return Cameras(cameras.camera_to_world, crop_intrinsics(cameras.intrinsics, top, left))
