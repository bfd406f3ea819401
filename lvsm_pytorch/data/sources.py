"""Input views and target views: samples, batches, and what all sources of them have in common."""

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
    """Input views and target views, with their cameras: rays are computed where a model takes them, and not carried there.

    Attributes:
        images: (b v+t 3 h w) in [0, 1], or in bytes, a quarter of it to carry; inputs first.
        cameras: (b v+t ...), inputs first, in the frame of the rays.
        names: Of the targets, one for each of b.
        num_inputs: v.
        depth_range: (b 2), near and far distance of planes.
        distances: (b v+t h w) along the rays of pixels, where they are known.
    """
    images: Tensor
    cameras: Cameras
    names: list[str]
    num_inputs: int
    depth_range: Tensor | None = None
    distances: Tensor | None = None

    @property
    def input_images(self) -> Tensor:
        """(b v 3 h w) in [0, 1]."""
        return in_unit(self.images[:, :self.num_inputs])

    @property
    def target_images(self) -> Tensor:
        """(b t 3 h w) in [0, 1]."""
        return in_unit(self.images[:, self.num_inputs:])

    @property
    def input_rays(self) -> Tensor:
        """(b v 6 h w), computed from the cameras in float32."""
        return plucker_rays(*self.cameras[:, :self.num_inputs], image_size = (self.images.shape[-2], self.images.shape[-1]))

    @property
    def target_rays(self) -> Tensor:
        """(b t 6 h w), computed from the cameras in float32."""
        return plucker_rays(*self.cameras[:, self.num_inputs:], image_size = (self.images.shape[-2], self.images.shape[-1]))

    @property
    def target_distances(self) -> Tensor | None:
        """(b t h w)."""
        return None if self.distances is None else self.distances[:, self.num_inputs:]

    def arguments(self) -> dict[str, Any]:
        """Those of `LVSM.forward` for rendering: images and rays of the inputs, rays of the targets, cameras and depth range."""
        return dict(input_images = self.input_images, input_rays = self.input_rays, target_rays = self.target_rays, cameras = self.cameras, depth_range = self.depth_range)

    def to(self, device: torch.device) -> Batch:
        return self.map(lambda t: t.to(device, non_blocking = True))

    def samples(self, some: slice) -> Batch:
        """Some of the b samples."""
        return self.map(lambda t: t[some])._replace(names = self.names[some])

    def map(self, function: Callable[[Any], Any]) -> Batch:
        """All tensors, and the cameras, through a function."""
        images, cameras, depth_range, distances = (None if t is None else function(t) for t in (self.images, self.cameras, self.depth_range, self.distances))
        return self._replace(images = images, cameras = cameras, depth_range = depth_range, distances = distances)


# 'scene': all samples of a scene have one world, which the model may learn by heart, as for a single scene it should.
# 'inputs': in each sample the mean input camera is the identity. In both, a scene keeps one unit of length: by the
# cameras of each sample, the same scene would be now large and now small, which is much harder to learn.

Frame = Literal['scene', 'inputs']


class Source(ABC):
    """Where views come from: samples without end, by their numbers, so that a run can go on from any of them, and the views that are held out.

    Args:
        num_inputs: Input views of a sample; the others are targets.
        num_targets: Target views of a training sample.
        random_num_inputs: Least and most input views of a training sample, drawn anew for each step; None for `num_inputs`.
        samples_per_step: Training samples that have equally many input views, one after the other.
        frame: Of the rays.
        seed: Of all that is drawn.

    Attributes:
        description: What there is, in words.
        scale: 'depth' where the unit goes by how far the scene is, 'cameras' where it goes by the cameras or is the same for all scenes.
        unit: Length of the scenes' worlds that is 1 in all samples; None where each scene has its own.
        world: Of one scene, the similarity (4 4) from its world to that of the frame 'scene'; else None.
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
        """The sample of that number, of all that there ever are, in the frame and unit of its scene: a batch of b = 1."""

    @abstractmethod
    def held_out(self) -> Batch:
        """What is never trained with, one target each, in the frame of the rays."""

    def share(self, folder: Path | None) -> None:  # noqa: B027, since most sources compute nothing that takes long
        """Lets processes that read samples share what each would compute anew, through files in a folder; None ends it."""

    def collate(self, samples: Sequence[Batch]) -> Batch:
        """Samples as one batch, in the frame of the rays."""
        cameras, num_inputs = Cameras.cat([sample.cameras for sample in samples]), samples[0].num_inputs

        if self.frame == 'inputs':
            cameras = cameras.transform(normalize_poses(cameras.camera_to_world[:, :num_inputs], unit = 1.).similarity[:, None])

        def joined(parts: list[Any]) -> Any:
            return None if any(part is None for part in parts) else torch.cat(parts)

        images, depth_range, distances = (joined([getattr(sample, name) for sample in samples]) for name in ('images', 'depth_range', 'distances'))
        return Batch(images, cameras, [name for sample in samples for name in sample.names], num_inputs, depth_range, distances)

    def training_batch(self, step: int, batch_size: int) -> Batch:
        """The samples of a step of so many."""
        return self.collate([self.sample(step * batch_size + index) for index in range(batch_size)])

    def draw_num_inputs(self, number: int) -> int:
        """Input views of the training sample of a number: all of a step have equally many."""
        least, most = self.random_num_inputs
        return least if least == most else int(torch.randint(least, most + 1, (), generator = self.generator(-1 - number // self.samples_per_step)))

    @property
    def max_num_inputs(self) -> int:
        """Most input views of a sample."""
        return max(self.num_inputs, self.random_num_inputs[1])

    def generator(self, number: int) -> Generator:
        """What a sample is drawn by."""
        return Generator().manual_seed(self.seed * 1_000_003 + number)


class SyntheticSource(Source):
    """Built-in scenes without end. Those of a sample come from a window of seeds that moves on with the samples, so that each is rendered once.

    Args:
        image_size: Height and width in pixels, one number or two; what is not square is cut from the middle of a square.
        options: Of `Source`.
    """

    NUM_HELD_OUT = 64
    FIRST_TRAINING_SEED = 1_000
    WINDOW = 128
    SAMPLES_PER_SCENE = 48
    description = 'built-in synthetic scenes, without end'
    UNIT = 3.  # about the distance of the cameras to what they look at
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
        """Scenes by seeds that no training reaches."""
        return self.collate([self.views(seed, torch.arange(self.num_inputs + 1), self.num_inputs) for seed in range(most)])

    def views(self, seed: int, indices: Tensor, num_inputs: int) -> Batch:
        images, cameras = self.scene(seed)
        return Batch(images[indices].unsqueeze(0), cameras[indices][None], [f'scene {seed}'], num_inputs)


def middle_of(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle (... h w) of square images (... n n)."""
    top, left = ((images.shape[-1] - length) // 2 for length in size)
    return images[..., top:top + size[0], left:left + size[1]]


def middle_cameras(cameras: Cameras, size: tuple[int, int]) -> Cameras:
    """Cameras of `middle_of` squares as long as the longer side of `size`."""
    top, left = ((max(size) - length) // 2 for length in size)
    return Cameras(cameras.camera_to_world, crop_intrinsics(cameras.intrinsics, top, left))
