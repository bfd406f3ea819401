"""Training samples of posed photos and videos: `SceneSource` for one scene, `DatasetSource` for a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from functools import partial
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from lvsm_pytorch.data.dataset import Dataset, Split, shuffled_order
from lvsm_pytorch.data.images import as_size, in_unit
from lvsm_pytorch.data.order import LANES
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.recent import Recent
from lvsm_pytorch.data.scene import Scene, cameras_of, hold_out
from lvsm_pytorch.data.sources import Batch, Frame, Source
from lvsm_pytorch.data.view_sampling import draw_nearest_views, draw_video_views
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras, move_poses
from lvsm_pytorch.geometry.normalization import normalize_poses, unit_of
from lvsm_pytorch.geometry.scene_scale import SceneScale, rescaled, scene_scale
from lvsm_pytorch.geometry.view_selection import nearest_views
from lvsm_pytorch.seeds import seed_of

# number of samples for which data are prefetched: with remote files that are read in turns, the next one while half of a usual file is left

READ_AHEAD = 25 * LANES


class PhotoSource(Source):
    """Base class of sources of photos.

    Args:
        image_size: Height and width of the centre crop in pixels, one number or two.
        scale: With 'cameras', the unit of length is determined by the cameras of a scene; with 'depth' by the distance of the scene in a sample's inputs (`scene_scale`), which also gives
            the depth range of a plane sweep. In the frame 'scene' the unit is always that of the cameras.
        options: Options of `Source`.
    """

    KEPT = 4096  # size of the cache of scales by input views: an estimate takes 0.2 CPU seconds for three

    def __init__(self, *, image_size: int | tuple[int, int], scale: Literal['cameras', 'depth'] = 'cameras', **options: Any):
        super().__init__(**options)
        self.size = as_size(image_size)
        self.scale = scale
        self.scales: dict[Hashable, SceneScale] = {}

    def scaled(self, inputs: Hashable, images: Tensor, cameras: Cameras) -> tuple[Cameras, Tensor | None]:
        """Returns the cameras in the unit of a sample, and its depth range (1 2) if the scale is 'depth', otherwise None.

        Args:
            inputs: Key of the input views, for the cache of scales.
            images: Input views (v 3 h w).
            cameras: Cameras (n ...), inputs first.
        """
        if self.scale != 'depth':
            return cameras, None

        if inputs not in self.scales:
            if len(self.scales) >= self.KEPT:
                del self.scales[next(iter(self.scales))]

            self.scales[inputs] = scene_scale(images, cameras[:len(images)])

        scale = self.scales[inputs]
        unit = scale.unit if self.frame == 'inputs' else 1.
        return rescaled(cameras, unit), scale.depth_range(unit)[None]


class SceneSource(PhotoSource):
    """Source of one scene. A sample has a random target, and inputs among the views nearest to it.

    Args:
        scene: The scene. Every eighth view by name is held out, and not used in training.
        problems: Record of unreadable photos.
        frame: Frame of the rays; 'scene' is that of the mean training camera.
        options: Options of `PhotoSource`.
    """

    def __init__(self, scene: Scene, *, problems: Problems | None = None, frame: Frame = 'scene', **options: Any):
        super().__init__(frame = frame, **options)
        problems = Problems() if problems is None else problems

        # photos are read one at a time, and each is downscaled before the next is read

        fitted = {view.name: problems.attempt(f'{scene.name}/{view.name}', partial(view.fitted_bytes, self.size)) for view in scene.views}
        training, held_out = hold_out(scene.only([index for index, view in enumerate(scene.views) if fitted[view.name] is not None]))

        if len(training.views) <= self.max_num_inputs:
            fail('num_inputs', f'must be below the number of training views {len(training.views)}', self.max_num_inputs, 'Use fewer inputs or add photos.')

        self.num_training = len(training.views)
        self.description = f'{scene.name}: {len(training.views)} views to train with, {len(held_out.views)} held out'

        views = (*training.views, *held_out.views)
        self.names = [view.name for view in views]
        images, intrinsics = zip(*(each for view in views if (each := fitted.pop(view.name)) is not None), strict = True)
        self.images = torch.stack(images)

        # in float64, since the scene may be far from the origin of its world

        poses = cameras_of(views).camera_to_world
        self.world = normalize_poses(poses[:self.num_training]).similarity
        self.unit = None if self.scale == 'depth' else unit_of(self.world)
        self.cameras = Cameras(poses, torch.stack(intrinsics)).transform(self.world).to(torch.float32)

    def sample(self, number: int) -> Batch:
        num_inputs = self.draw_num_inputs(number)
        poses = self.cameras.camera_to_world[:self.num_training]
        return self.views(draw_nearest_views(poses, num_inputs = num_inputs, num_targets = self.num_targets, generator = self.generator(number)), num_inputs)

    def held_out(self) -> Batch:
        """Returns a batch of all held-out views as targets, with the nearest training views as inputs."""
        return self.from_nearest(range(self.num_training, len(self.names)))

    def trained_with(self) -> Batch:
        """Returns a batch of all training views as targets, with the nearest other ones as inputs, to measure overfitting."""
        return self.from_nearest(range(self.num_training))

    def from_nearest(self, targets: range) -> Batch:
        return self.collate([self.views([*self.nearest(target), target], self.num_inputs) for target in targets])

    def nearest(self, target: int) -> list[int]:
        """Returns the numbers of the `num_inputs` training views nearest to a view, except itself."""
        poses = self.cameras.camera_to_world
        return [index for index in nearest_views(poses[:self.num_training], poses[target], self.num_inputs + 1) if index != target][:self.num_inputs]

    def views(self, indices: list[int], num_inputs: int) -> Batch:
        """Returns views by number as a batch of b = 1, inputs first."""
        images, cameras = self.images[indices], self.cameras[indices]
        cameras, depth_range = self.scaled(tuple(indices[:num_inputs]), in_unit(images[:num_inputs]), cameras)
        return Batch(images[None], cameras[None], [self.names[indices[num_inputs]]], num_inputs, depth_range)


class DatasetSource(PhotoSource):
    """Source of a dataset. Each sample is of another scene; every scene is used once in an epoch, in a shuffled order.

    Unusable scenes and images are skipped and recorded in the dataset's `problems`: an unusable scene is replaced by the next one, and after an unreadable
    image the views of the scene are drawn again. A sample thus depends only on its number, not on earlier ones.

    Args:
        split: Training scenes and held-out scenes.
        frame_distances: For videos, minimum and maximum number of frames between the first and the last view of a sample.
        options: Options of `PhotoSource`.
    """

    def __init__(self, split: Split, *, frame_distances: tuple[int, int] = (25, 192), **options: Any):
        super().__init__(**options)
        self.split = split
        self.description = f'{split.training.format}: {len(split.training)} scenes to train with, {len(split.held_out)} held out'
        self.frame_distances = frame_distances
        self.order = Recent(partial(shuffled_order, split.training, seed = self.seed), 2)
        self.training_scene = Recent(partial(self.read, split.training), 64)

    def sample(self, number: int) -> Batch:
        """Returns the sample of a number.

        Raises:
            ValueError: If no scene can be used.
        """
        epoch, position = divmod(number, len(self.split.training))
        order = self.order(epoch)
        generator, num_inputs = self.generator(number), self.draw_num_inputs(number)
        self.split.training.prepare(order[(position + READ_AHEAD) % len(order)])

        scenes = (self.training_scene(order[(position + further) % len(order)]) for further in range(len(order)))
        samples = (self.draw(self.split.training, scene, num_inputs, self.num_targets, generator) for scene in scenes if scene is not None)
        sample = next((sample for sample in samples if sample is not None), None)

        if sample is None:
            fail('data', 'must have at least one scene that can be used', f'none of {len(order)}', self.split.training.problems.summary(most = 5))

        return sample

    def held_out(self) -> Batch:
        """Returns a batch of one sample for each held-out scene, with fixed views and one target."""
        held_out = self.split.held_out
        scenes = [self.read(held_out, index) for index in range(len(held_out))]
        samples = [self.draw(held_out, scene, self.num_inputs, 1, Generator().manual_seed(seed_of(scene.name))) for scene in scenes if scene is not None]
        samples = [sample for sample in samples if sample is not None]

        if not samples:
            fail('data', 'must have at least one held-out scene that can be used', f'none of {len(held_out)}', held_out.problems.summary(most = 5))

        return self.collate(samples)

    def read(self, dataset: Dataset, index: int) -> Scene | None:
        def long_enough() -> Scene:
            scene = dataset[index]

            if len(scene.views) <= self.max_num_inputs:
                fail(scene.name, f'must have more views than the {self.max_num_inputs} inputs of a sample', len(scene.views), 'Use fewer inputs.', BadView)

            if scene.is_video and len(scene.views) <= self.frame_distances[0]:
                warn_short(self.frame_distances[0])

            return scene

        return dataset.problems.attempt(dataset.label(index), long_enough)

    def draw(self, dataset: Dataset, scene: Scene, num_inputs: int, num_targets: int, generator: Generator) -> Batch | None:
        """Draws views of a scene; returns None if no draw has readable images."""
        counts = dict(num_inputs = num_inputs, num_targets = num_targets)

        for _ in range(10):
            if scene.is_video:
                indices = draw_video_views(len(scene.views), frame_distances = self.frame_distances, generator = generator, **counts)
            else:
                indices = draw_nearest_views(cameras_of(scene.views).camera_to_world, generator = generator, **counts)

            views = [scene.views[index] for index in indices]
            fitted = [dataset.problems.attempt(f'{scene.name}/{view.name}', partial(view.fitted_bytes, self.size)) for view in views]

            if None not in fitted:
                images, intrinsics = (torch.stack(each) for each in zip(*(each for each in fitted if each is not None), strict = True))
                inputs = scene.name, *indices[:num_inputs]
                cameras, depth_range = self.scaled(inputs, in_unit(images[:num_inputs]), Cameras(self.poses(scene, indices, num_inputs), intrinsics))
                return Batch(images[None], cameras[None], [f'{scene.name}/{views[num_inputs].name}'], num_inputs, depth_range)

        dataset.problems.skip(scene.name, 'its images can not be read')
        return None

    def poses(self, scene: Scene, indices: list[int], num_inputs: int) -> Tensor:
        """Normalises the poses of views by the mean camera and the unit of the scene; for a video by those of the inputs, since it may be long."""
        poses = cameras_of(scene.views).camera_to_world
        inputs = poses[indices[:num_inputs]] if scene.is_video else poses
        return move_poses(normalize_poses(inputs).similarity, poses[indices]).float()


def warn_short(least: int) -> None:
    """Warns of videos that are too short. Python shows a warning from one line of code once."""
    warnings.warn(f'some videos have fewer than {least} frames: their views are drawn from all frames', stacklevel = 2)
