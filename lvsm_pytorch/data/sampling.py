"""Which views are seen, and which are asked for: from scenes to batches."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import lru_cache, partial
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from lvsm_pytorch.cameras import Cameras, move_poses, normalization, normalize_poses, plucker_rays
from lvsm_pytorch.checks import fail
from lvsm_pytorch.data.dataset import Dataset, Split, shuffled_order
from lvsm_pytorch.data.images import resize_and_crop
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, cameras_of, hold_out
from lvsm_pytorch.data.synthetic import synthetic_scenes


class Batch(NamedTuple):
    """What the model is trained and judged with.

    input_images: (b v 3 h w), input_rays: (b v 6 h w), target_images: (b t 3 h w), target_rays: (b t 6 h w).
    names: of what is asked for, one for each of b.
    """
    input_images: Tensor
    input_rays: Tensor
    target_images: Tensor
    target_rays: Tensor
    names: list[str]


# 'scene': all samples of a scene have one world, which the model may learn by heart, as for a single scene it should.
# 'inputs': in each sample the mean input camera is the identity. In both, a scene keeps one unit of length: by the
# cameras of each sample, the same scene would be now large and now small, which is much harder to learn.

Frame = Literal['scene', 'inputs']


class Source(Protocol):
    """Where batches come from. A training batch is a function of its step, so that a run can be repeated from any step.

    frame: of the rays, as it was asked for or as fits the data.
    """
    frame: Frame

    def training_batch(self, step: int, batch_size: int) -> Batch: ...

    def held_out_batch(self) -> Batch: ...


def make_batch(images: Tensor, cameras: Cameras, num_inputs: int, names: list[str], *, frame: Frame) -> Batch:
    """images (b n 3 h w) and cameras (b n ...), inputs first, in the frame and unit of their scene."""
    poses = cameras.camera_to_world

    if frame == 'inputs':
        inputs, targets = normalize_poses(poses[:, :num_inputs], poses[:, num_inputs:], unit = 1.)
        assert targets is not None
        poses = torch.cat((inputs, targets), dim = 1)

    rays = plucker_rays(poses, cameras.intrinsics, (images.shape[-2], images.shape[-1]))
    return Batch(images[:, :num_inputs], rays[:, :num_inputs], images[:, num_inputs:], rays[:, num_inputs:], names)


class SceneSource:
    """Batches of one scene: a target drawn at random, and inputs among the views that are nearest to it.

    scene: all its views; every eighth by name is held out, and seen neither as target nor as input.
    num_inputs, num_targets: views a sample. image_size: height and width in pixels, cut from the middle.
    frame: of the rays. The scene's own is that of its mean training camera; `world` (4 4) is the similarity that leads there.
    """

    def __init__(self, scene: Scene, *, num_inputs: int, num_targets: int, image_size: int, frame: Frame = 'scene', seed: int = 0, problems: Problems | None = None):
        problems = Problems() if problems is None else problems
        loaded = {view.name: problems.attempt(f'{scene.name}/{view.name}', view.load) for view in scene.views}
        training, held_out = hold_out(replace(scene, views = tuple(view for view in scene.views if loaded[view.name] is not None)))

        if len(training.views) <= num_inputs:
            fail('num_inputs', f'must be below the number of training views {len(training.views)}', num_inputs, 'Ask for fewer inputs or add photos.')

        self.num_inputs = num_inputs
        self.num_targets = num_targets
        self.frame: Frame = frame
        self.seed = seed
        self.num_training = len(training.views)

        views = (*training.views, *held_out.views)
        self.names = [view.name for view in views]
        images, intrinsics = zip(*(resize_and_crop(image, view.intrinsics, (image_size, image_size)) for view in views if (image := loaded.pop(view.name)) is not None), strict = True)
        self.images = torch.stack(images)

        # in float64: the scene may be far from the origin of its world

        poses = torch.stack([view.camera_to_world for view in views]).double()
        self.world = normalization(poses[:self.num_training])
        self.cameras = Cameras(move_poses(self.world, poses).float(), torch.stack(intrinsics))

        # training views by their distance to each view, itself left out

        distance = camera_distance(self.cameras.camera_to_world)[:, :self.num_training]
        distance[:self.num_training].fill_diagonal_(torch.inf)
        self.nearest = distance.argsort(dim = -1)

    def training_batch(self, step: int, batch_size: int) -> Batch:
        generator = Generator().manual_seed(self.seed * 1_000_003 + step)
        samples = []

        for _ in range(batch_size):
            target = int(torch.randint(self.num_training, (), generator = generator))
            num_near = min(3 * self.num_inputs, self.num_training - 1)
            near = self.nearest[target, :num_near][torch.randperm(num_near, generator = generator)]

            # further targets are the near views that are not inputs, and views that are, where those don't suffice

            further = near.roll(-self.num_inputs)[:self.num_targets - 1]
            samples.append(torch.cat((near[:self.num_inputs], torch.tensor([target]), further)))

        return self.batch(torch.stack(samples))

    def held_out_batch(self) -> Batch:
        """Each held-out view, seen from the training views nearest to it."""
        targets = torch.arange(self.num_training, len(self.names))
        return self.batch(torch.cat((self.nearest[targets, :self.num_inputs], targets.unsqueeze(1)), dim = 1))

    def batch(self, views: Tensor) -> Batch:
        """views: (b n) by index, inputs first."""
        names = [self.names[view] for view in views[:, self.num_inputs].tolist()]
        return make_batch(self.images[views], Cameras(*(t[views] for t in self.cameras)), self.num_inputs, names, frame = self.frame)


def camera_distance(camera_to_world: Tensor) -> Tensor:
    """How far apart cameras (n 4 4) are, (n n): between centres, in units of the median distance, plus the angle between their views in radians."""
    centres, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    apart = torch.cdist(centres, centres)
    angle = (forward @ forward.mT).clamp(-1, 1).acos()
    return apart / apart.median().clamp(min = 1e-12) + angle


class DatasetSource:
    """Batches of many scenes, each of another one: every scene once an epoch, in a shuffled order.

    split: scenes to train with, and those held out.
    num_inputs, num_targets: views a sample. image_size: height and width in pixels, cut from the middle.
    frame_distances: of videos, least and most frames between the first and the last view of a sample.
    frame: of the rays.

    What can't be used is skipped and noted in the dataset's `problems`: in place of a scene the next one is taken, in place of an image
    the scene's views are drawn again. So a batch is a function of its step alone, whatever was met before.
    """

    def __init__(self, split: Split, *, num_inputs: int, num_targets: int, image_size: int, frame_distances: tuple[int, int] = (25, 192), frame: Frame = 'inputs', seed: int = 0):
        self.split = split
        self.num_inputs = num_inputs
        self.num_targets = num_targets
        self.size = image_size, image_size
        self.frame_distances = frame_distances
        self.frame: Frame = frame
        self.seed = seed
        self.order = lru_cache(maxsize = 2)(lambda epoch: shuffled_order(split.training, epoch, seed))
        self.training_scene = lru_cache(maxsize = 64)(partial(self.read, split.training))

    def training_batch(self, step: int, batch_size: int) -> Batch:
        return collate([self.training_sample(step * batch_size + index) for index in range(batch_size)])

    def training_sample(self, number: int) -> Batch:
        """The sample of that number, of all that there ever are; a batch of one. Errors: ValueError where no scene can be used."""
        epoch, position = divmod(number, len(self.split.training))
        order = self.order(epoch)
        generator = Generator().manual_seed(self.seed * 1_000_003 + number)

        scenes = (self.training_scene(index) for index in (*order[position:], *order[:position]))
        samples = (self.sample(self.split.training, scene, self.num_targets, generator) for scene in scenes if scene is not None)
        sample = next((sample for sample in samples if sample is not None), None)

        if sample is None:
            fail('data', 'must have at least one scene that can be used', f'none of {len(order)}', self.split.training.problems.summary(most = 5))

        return sample

    def held_out_batch(self) -> Batch:
        """Of each held-out scene views that are always the same, and one target."""
        held_out = self.split.held_out
        scenes = [self.read(held_out, index) for index in range(len(held_out))]
        samples = [self.sample(held_out, scene, 1, Generator().manual_seed(0)) for scene in scenes if scene is not None]
        samples = [sample for sample in samples if sample is not None]

        if not samples:
            fail('data', 'must have at least one held-out scene that can be used', f'none of {len(held_out)}', held_out.problems.summary(most = 5))

        return collate(samples)

    def read(self, dataset: Dataset, index: int) -> Scene | None:
        def long_enough() -> Scene:
            scene = dataset[index]

            if len(scene.views) <= self.num_inputs:
                fail(scene.name, f'must have more views than the {self.num_inputs} inputs of a sample', len(scene.views), 'Ask for fewer inputs.', BadView)

            if scene.is_video and len(scene.views) <= self.frame_distances[0]:
                warn_short(self.frame_distances[0])

            return scene

        return dataset.problems.attempt(f'scene {index} of {dataset.group(index) or "the dataset"}', long_enough)

    def sample(self, dataset: Dataset, scene: Scene, num_targets: int, generator: Generator) -> Batch | None:
        """None where no draw of views has readable images."""
        for _ in range(10):
            indices = draw_views(scene, num_inputs = self.num_inputs, num_targets = num_targets, frame_distances = self.frame_distances, generator = generator)
            views = [scene.views[index] for index in indices]
            images = [dataset.problems.attempt(f'{scene.name}/{view.name}', view.load) for view in views]

            if all(image is not None for image in images):
                fitted = [resize_and_crop(image, view.intrinsics, self.size) for image, view in zip(images, views, strict = True) if image is not None]
                pixels, intrinsics = (torch.stack(each).unsqueeze(0) for each in zip(*fitted, strict = True))
                cameras = Cameras(self.poses(scene, indices).unsqueeze(0), intrinsics)
                return make_batch(pixels, cameras, self.num_inputs, [f'{scene.name}/{views[self.num_inputs].name}'], frame = self.frame)

        dataset.problems.skip(scene.name, 'its images can not be read')
        return None

    def poses(self, scene: Scene, indices: list[int]) -> Tensor:
        """In the mean camera and the unit of the scene; of a video, in those of the inputs, since it may go on for long."""
        poses = cameras_of(scene.views).camera_to_world
        inputs = poses[indices[:self.num_inputs]] if scene.is_video else poses
        _, normalized = normalize_poses(inputs, poses[indices])
        assert normalized is not None
        return normalized


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


def collate(samples: list[Batch]) -> Batch:
    """Batches of one as one."""
    images, rays, target_images, target_rays = (torch.cat(each) for each in zip(*(sample[:4] for sample in samples), strict = True))
    return Batch(images, rays, target_images, target_rays, [name for sample in samples for name in sample.names])


class SyntheticSource:
    """Batches of built-in scenes without end. The scenes of a step come from a window of seeds that moves on with the steps, so that each is rendered once.

    num_inputs, num_targets: views a sample. image_size: height and width in pixels. frame: of the rays.
    """

    NUM_HELD_OUT = 64
    FIRST_TRAINING_SEED = 1_000
    WINDOW = 128
    UNIT = 3.  # about the distance of the cameras to what they look at

    def __init__(self, *, num_inputs: int, num_targets: int, image_size: int, frame: Frame = 'inputs', seed: int = 0):
        self.num_inputs = num_inputs
        self.num_targets = num_targets
        self.image_size = image_size
        self.frame: Frame = frame
        self.seed = seed
        self.num_views = max(6, num_inputs + num_targets)
        self.scene = lru_cache(maxsize = 2 * self.WINDOW)(self.render_scene)

    def render_scene(self, seed: int) -> tuple[Tensor, Cameras]:
        images, cameras = synthetic_scenes([seed], num_views = self.num_views, image_size = self.image_size)
        camera_to_world, intrinsics = (t[0] for t in cameras)
        camera_to_world[:, :3, 3] /= self.UNIT
        return images[0], Cameras(camera_to_world, intrinsics)

    def training_batch(self, step: int, batch_size: int) -> Batch:
        generator = Generator().manual_seed(self.seed * 1_000_003 + step)
        first = self.FIRST_TRAINING_SEED + self.seed * 10_000_019 + step
        seeds = first + torch.randint(self.WINDOW, (batch_size,), generator = generator)
        views = torch.rand(batch_size, self.num_views, generator = generator).argsort(dim = -1)[:, :self.num_inputs + self.num_targets]
        return self.batch(seeds, views)

    def held_out_batch(self) -> Batch:
        """Scenes by seeds that no training reaches."""
        views = torch.arange(self.num_inputs + 1).expand(self.NUM_HELD_OUT, -1)
        return self.batch(torch.arange(self.NUM_HELD_OUT), views)

    def batch(self, seeds: Tensor, views: Tensor) -> Batch:
        scenes = [self.scene(seed) for seed in seeds.tolist()]
        images = torch.stack([images[index] for (images, _), index in zip(scenes, views, strict = True)])
        cameras = [Cameras(*(t[index] for t in cameras)) for (_, cameras), index in zip(scenes, views, strict = True)]
        return make_batch(images, Cameras(*map(torch.stack, zip(*cameras, strict = True))), self.num_inputs, [f'scene {seed}' for seed in seeds.tolist()], frame = self.frame)
