"""Input views and target views: from scenes to batches."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor

from lvsm_pytorch.data.dataset import Dataset, Split, shuffled_order
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, cameras_of, hold_out
from lvsm_pytorch.data.synthetic import synthetic_scenes
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras, move_poses
from lvsm_pytorch.geometry.normalization import normalize_poses, unit_of
from lvsm_pytorch.geometry.rays import plucker_rays
from lvsm_pytorch.geometry.view_selection import camera_distance
from lvsm_pytorch.seeds import seed_of


class Batch(NamedTuple):
    """Input views and target views, with their cameras: rays are computed where a model takes them, and not carried there.

    Attributes:
        images: (b v+t 3 h w) in [0, 1], inputs first.
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
        """(b v 3 h w)."""
        return self.images[:, :self.num_inputs]

    @property
    def target_images(self) -> Tensor:
        """(b t 3 h w)."""
        return self.images[:, self.num_inputs:]

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
        frame: Of the rays.
        seed: Of all that is drawn.
        description: What there is, in words.
        scale: 'depth' where the unit goes by how far the scene is, 'cameras' where it goes by the cameras or is the same for all scenes.
        unit: Length of the scenes' worlds that is 1 in all samples; None where each scene has its own.
        world: Of one scene, the similarity (4 4) from its world to that of the frame 'scene'; else None.
    """
    description: str
    scale: str = 'cameras'
    unit: float | None = None
    world: Tensor | None = None

    def __init__(self, *, num_inputs: int, num_targets: int, frame: Frame, seed: int):
        self.num_inputs = num_inputs
        self.num_targets = num_targets
        self.frame: Frame = frame
        self.seed = seed

    @abstractmethod
    def sample(self, number: int) -> Batch:
        """The sample of that number, of all that there ever are, in the frame and unit of its scene: a batch of b = 1."""

    @abstractmethod
    def held_out(self) -> Batch:
        """What is never trained with, one target each, in the frame of the rays."""

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

    def generator(self, number: int) -> Generator:
        """What a sample is drawn by."""
        return Generator().manual_seed(self.seed * 1_000_003 + number)


class SceneSource(Source):
    """One scene: a target drawn at random, and inputs among the views that are nearest to it.

    Args:
        scene: All its views; every eighth by name is held out, and neither a target nor an input in training.
        num_inputs: Views a sample.
        num_targets: Views a sample.
        image_size: Height and width in pixels, cut from the middle.
        frame: Of the rays. The scene's own is that of its mean training camera.
    """

    def __init__(self, scene: Scene, *, num_inputs: int, num_targets: int, image_size: int, frame: Frame = 'scene', seed: int = 0, problems: Problems | None = None):
        super().__init__(num_inputs = num_inputs, num_targets = num_targets, frame = frame, seed = seed)
        problems = Problems() if problems is None else problems

        # one photo after the other, each made small before the next is read

        size = image_size, image_size
        fitted = {view.name: problems.attempt(f'{scene.name}/{view.name}', partial(view.fitted, size)) for view in scene.views}
        training, held_out = hold_out(scene.only([index for index, view in enumerate(scene.views) if fitted[view.name] is not None]))

        if len(training.views) <= num_inputs:
            fail('num_inputs', f'must be below the number of training views {len(training.views)}', num_inputs, 'Ask for fewer inputs or add photos.')

        self.num_training = len(training.views)
        self.description = f'{scene.name}: {len(training.views)} views to train with, {len(held_out.views)} held out'

        views = (*training.views, *held_out.views)
        self.names = [view.name for view in views]
        images, intrinsics = zip(*(each for view in views if (each := fitted.pop(view.name)) is not None), strict = True)
        self.images = torch.stack(images)

        # in float64: the scene may be far from the origin of its world

        poses = cameras_of(views).camera_to_world
        self.world = normalize_poses(poses[:self.num_training]).similarity
        self.unit = unit_of(self.world)
        self.cameras = Cameras(poses, torch.stack(intrinsics)).transform(self.world).to(torch.float32)

        # training views by their distance to each view, itself left out

        distance = camera_distance(self.cameras.camera_to_world)[:, :self.num_training]
        distance[:self.num_training].fill_diagonal_(torch.inf)
        self.nearest = distance.argsort(dim = -1)

    def sample(self, number: int) -> Batch:
        generator = self.generator(number)
        target = int(torch.randint(self.num_training, (), generator = generator))
        num_near = min(max(3 * self.num_inputs, self.num_inputs + self.num_targets - 1), self.num_training - 1)
        near = self.nearest[target, :num_near][torch.randperm(num_near, generator = generator)]

        # further targets are the near views that are not inputs, and views that are, where those don't suffice

        further = near.roll(-self.num_inputs).repeat(self.num_targets // num_near + 1)[:self.num_targets - 1]
        return self.views(torch.cat((near[:self.num_inputs], torch.tensor([target]), further)))

    def held_out(self) -> Batch:
        """Each held-out view as the target, with the training views nearest to it as inputs."""
        return self.seen_from_nearest(range(self.num_training, len(self.names)))

    def trained_with(self) -> Batch:
        """Each training view as the target, with those nearest to it as inputs: what a model should have overfitted to."""
        return self.seen_from_nearest(range(self.num_training))

    def seen_from_nearest(self, targets: range) -> Batch:
        return self.collate([self.views(torch.cat((self.nearest[target, :self.num_inputs], torch.tensor([target])))) for target in targets])

    def views(self, indices: Tensor) -> Batch:
        """Views by number.

        Args:
            indices: (n), inputs first.
        """
        return Batch(self.images[indices].unsqueeze(0), self.cameras[indices][None], [self.names[int(indices[self.num_inputs])]], self.num_inputs)


class DatasetSource(Source):
    """Many scenes, each sample of another one: every scene once an epoch, in a shuffled order.

    What can't be used is skipped and noted in the dataset's `problems`: in place of a scene the next one is taken, in place of an image
    the scene's views are drawn again. So a sample is a function of its number alone, whatever was met before.

    Args:
        split: Scenes to train with, and those held out.
        num_inputs: Views a sample.
        num_targets: Views a sample.
        image_size: Height and width in pixels, cut from the middle.
        frame_distances: Of videos, least and most frames between the first and the last view of a sample.
        frame: Of the rays.
    """

    def __init__(self, split: Split, *, num_inputs: int, num_targets: int, image_size: int, frame_distances: tuple[int, int] = (25, 192), frame: Frame = 'inputs', seed: int = 0):
        super().__init__(num_inputs = num_inputs, num_targets = num_targets, frame = frame, seed = seed)
        self.split = split
        self.description = f'{split.training.format}: {len(split.training)} scenes to train with, {len(split.held_out)} held out'
        self.size = image_size, image_size
        self.frame_distances = frame_distances
        self.order = lru_cache(maxsize = 2)(lambda epoch: shuffled_order(split.training, epoch, seed))
        self.training_scene = lru_cache(maxsize = 64)(partial(self.read, split.training))

    def sample(self, number: int) -> Batch:
        """Views of a sample.

        Raises:
            ValueError: Where no scene can be used.
        """
        epoch, position = divmod(number, len(self.split.training))
        order = self.order(epoch)
        generator = self.generator(number)

        scenes = (self.training_scene(index) for index in (*order[position:], *order[:position]))
        samples = (self.draw(self.split.training, scene, self.num_targets, generator) for scene in scenes if scene is not None)
        sample = next((sample for sample in samples if sample is not None), None)

        if sample is None:
            fail('data', 'must have at least one scene that can be used', f'none of {len(order)}', self.split.training.problems.summary(most = 5))

        return sample

    def held_out(self) -> Batch:
        """Of each held-out scene views that are always the same, and one target."""
        held_out = self.split.held_out
        scenes = [self.read(held_out, index) for index in range(len(held_out))]
        samples = [self.draw(held_out, scene, 1, Generator().manual_seed(seed_of(scene.name))) for scene in scenes if scene is not None]
        samples = [sample for sample in samples if sample is not None]

        if not samples:
            fail('data', 'must have at least one held-out scene that can be used', f'none of {len(held_out)}', held_out.problems.summary(most = 5))

        return self.collate(samples)

    def read(self, dataset: Dataset, index: int) -> Scene | None:
        def long_enough() -> Scene:
            scene = dataset[index]

            if len(scene.views) <= self.num_inputs:
                fail(scene.name, f'must have more views than the {self.num_inputs} inputs of a sample', len(scene.views), 'Ask for fewer inputs.', BadView)

            if scene.is_video and len(scene.views) <= self.frame_distances[0]:
                warn_short(self.frame_distances[0])

            return scene

        return dataset.problems.attempt(dataset.label(index), long_enough)

    def draw(self, dataset: Dataset, scene: Scene, num_targets: int, generator: Generator) -> Batch | None:
        """None where no draw of views has readable images."""
        for _ in range(10):
            indices = draw_views(scene, num_inputs = self.num_inputs, num_targets = num_targets, frame_distances = self.frame_distances, generator = generator)
            views = [scene.views[index] for index in indices]
            fitted = [dataset.problems.attempt(f'{scene.name}/{view.name}', partial(view.fitted, self.size)) for view in views]

            if None not in fitted:
                pixels, intrinsics = (torch.stack(each).unsqueeze(0) for each in zip(*(each for each in fitted if each is not None), strict = True))
                cameras = Cameras(self.poses(scene, indices).unsqueeze(0), intrinsics)
                return Batch(pixels, cameras, [f'{scene.name}/{views[self.num_inputs].name}'], self.num_inputs)

        dataset.problems.skip(scene.name, 'its images can not be read')
        return None

    def poses(self, scene: Scene, indices: list[int]) -> Tensor:
        """In the mean camera and the unit of the scene; of a video, in those of the inputs, since it may go on for long."""
        poses = cameras_of(scene.views).camera_to_world
        inputs = poses[indices[:self.num_inputs]] if scene.is_video else poses
        return move_poses(normalize_poses(inputs).similarity, poses[indices]).float()


def warn_short(least: int) -> None:
    """Python shows a warning from one place once."""
    warnings.warn(f'some videos have fewer than {least} frames: their views are drawn from all that there are', stacklevel = 2)


def draw_views(scene: Scene, *, num_inputs: int, num_targets: int, frame_distances: tuple[int, int], generator: Generator) -> list[int]:
    """Numbers of views, inputs first.

    Of a video: a stretch of a random length within `frame_distances` (least, most; shorter where the video is), its ends and views between
    them as inputs, and any of it as targets, inputs too. Of photos: a target at random, inputs among the views nearest to it, and further
    targets among these.
    """
    total = len(scene.views)

    def draw(count: int, of: int) -> list[int]:
        return torch.randperm(of, generator = generator)[:count].tolist()

    def between(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator = generator))

    if scene.is_video:
        least, most = (max(min(distance, total - 1), num_inputs - 1) for distance in frame_distances)
        length = between(least, most)
        first = between(0, total - 1 - length)
        inner = sorted(1 + index for index in draw(max(num_inputs - 2, 0), length - 1))
        inputs = [first, *(first + index for index in inner), first + length] if num_inputs > 1 else [first + between(0, length)]
        targets = draw(num_targets, length + 1)
        return inputs + [first + targets[index % len(targets)] for index in range(num_targets)]

    target = between(0, total - 1)
    poses = cameras_of(scene.views).camera_to_world
    nearest = [index for index in camera_distance(poses)[target].argsort().tolist() if index != target][:max(3 * num_inputs, num_inputs + num_targets - 1)]
    near = [nearest[index] for index in draw(len(nearest), len(nearest))]
    further = near[num_inputs:] + near[:num_inputs]
    return near[:num_inputs] + [target] + [further[index % len(further)] for index in range(num_targets - 1)]


class SyntheticSource(Source):
    """Built-in scenes without end. Those of a sample come from a window of seeds that moves on with the samples, so that each is rendered once.

    Args:
        num_inputs: Views a sample.
        num_targets: Views a sample.
        image_size: Height and width in pixels.
        frame: Of the rays.
    """

    NUM_HELD_OUT = 64
    FIRST_TRAINING_SEED = 1_000
    WINDOW = 128
    SAMPLES_PER_SCENE = 48
    description = 'built-in synthetic scenes, without end'
    UNIT = 3.  # about the distance of the cameras to what they look at
    unit = UNIT

    def __init__(self, *, num_inputs: int, num_targets: int, image_size: int, frame: Frame = 'inputs', seed: int = 0):
        super().__init__(num_inputs = num_inputs, num_targets = num_targets, frame = frame, seed = seed)
        self.image_size = image_size
        self.num_views = max(6, num_inputs + num_targets)
        self.scene = lru_cache(maxsize = 2 * self.WINDOW)(self.render_scene)

    def render_scene(self, seed: int) -> tuple[Tensor, Cameras]:
        images, cameras = synthetic_scenes([seed], num_views = self.num_views, image_size = self.image_size)
        cameras.camera_to_world[..., :3, 3] /= self.UNIT
        return images[0], cameras[0]

    def sample(self, number: int) -> Batch:
        generator = self.generator(number)
        window = self.FIRST_TRAINING_SEED + self.seed * 10_000_019 + number // self.SAMPLES_PER_SCENE
        seed = window + int(torch.randint(self.WINDOW, (), generator = generator))
        return self.views(seed, torch.randperm(self.num_views, generator = generator)[:self.num_inputs + self.num_targets])

    def held_out(self, most: int = NUM_HELD_OUT) -> Batch:
        """Scenes by seeds that no training reaches."""
        return self.collate([self.views(seed, torch.arange(self.num_inputs + 1)) for seed in range(most)])

    def views(self, seed: int, indices: Tensor) -> Batch:
        images, cameras = self.scene(seed)
        return Batch(images[indices].unsqueeze(0), cameras[indices][None], [f'scene {seed}'], self.num_inputs)
