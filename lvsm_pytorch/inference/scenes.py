"""Which scene is rendered, and which of its views the model gets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.configs.yaml import data_beside
from lvsm_pytorch.data.dataset import Dataset, synthetic_dataset
from lvsm_pytorch.data.discovery import open_test
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, cameras_of, unit_of_set
from lvsm_pytorch.data.sources import SyntheticSource
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.view_selection import camera_distance, evenly, farthest_point_sampling
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import num_inputs_of

# frames of a video from the first to the last input: about what models of videos are trained with

STRETCH = 100


def data_of(model: Path, data: Path | None) -> Path | None:
    """The data that are named, or those of the run in the model's folder; None where that was trained on built-in scenes."""
    return data_beside(model) if data is None else data


def scenes_of(data: Path | None, image_size: int) -> Dataset:
    """What there is to see: data, or built-in scenes of so many pixels."""
    problems = Problems()
    return synthetic_dataset(SyntheticSource.FIRST_TRAINING_SEED, image_size, problems) if data is None else open_test(data, problems)


def scene_of(scenes: Dataset, number: int) -> Scene:
    """The scene of a number.

    Raises:
        ValueError: For a number that there is none of.
    """
    if not 0 <= number < len(scenes):
        fail('scene', f'must be from 0 up to below {len(scenes)}, the number of scenes', number, 'Left out, it is the first.')

    return scenes[number]


def unit_for(model: LVSM, scene: Scene) -> float | None:
    """A set of photos keeps one unit, as in training, whichever of them are inputs; None where the model has its own."""
    known = model.trained_for
    return unit_of_set(scene) if known is not None and known.takes_unit_of_set else None


class FittedViews:
    """Photos of a scene, resized and cropped as they are read, of which the last ones are kept. What can't be read is noted in `problems`.

    Args:
        scene: The scene.
        size: (height, width) in pixels.
        problems: Where to note what can't be read.
    """

    KEPT = 64

    def __init__(self, scene: Scene, size: tuple[int, int], problems: Problems | None = None):
        self.scene = scene
        self.size = size
        self.problems = Problems() if problems is None else problems
        self.bad: set[int] = set()    # numbers of those that were found not to be readable
        self.read = lru_cache(maxsize = self.KEPT)(self.read_anew)

    def read_anew(self, number: int) -> tuple[Tensor, Tensor] | None:
        view = self.scene.views[number]
        found = self.problems.attempt(f'{self.scene.name}/{view.name}', partial(view.fitted, self.size))

        if found is None:
            self.bad.add(number)

        return found

    def of(self, numbers: Sequence[int]) -> tuple[list[Tensor], Cameras]:
        """Images (3 h w), and their cameras.

        Raises:
            BadView: For one that can't be read.
        """
        found = {number: self.read(number) for number in numbers}

        for number, each in found.items():
            if each is None:
                fail('inputs', 'must be photos that can be read', f'{number}, {self.scene.views[number].name}', 'Name others.', BadView)

        images, intrinsics = zip(*(each for each in found.values() if each is not None), strict = True)
        return list(images), Cameras(cameras_of([self.scene.views[number] for number in numbers]).camera_to_world, torch.stack(intrinsics))

    def some_inputs(self, count: int) -> tuple[int, ...]:
        """As `some_inputs` of those that can be read: in place of one that can't, others are taken.

        Raises:
            ValueError: Where none can.
        """
        left = list(range(len(self.scene.views)))

        while left:
            chosen = [left[place] for place in some_inputs(self.scene.only(left), count)]
            bad = [number for number in chosen if self.read(number) is None]

            if not bad:
                return tuple(chosen)

            left = [number for number in left if number not in bad]

        return fail(self.scene.name, 'must have a photo that can be read', f'none of {len(self.scene.views)}', self.problems.summary(most = 5))


def inputs_of(config: RenderConfig, model: LVSM, photos: FittedViews) -> tuple[int, ...]:
    """Positions of the input views; of those that can be read, unless the config names them."""
    if config.inputs is not None:
        scene = photos.scene

        if not config.inputs or not all(0 <= number < len(scene.views) for number in config.inputs):
            fail('inputs', f'must be numbers from 0 up to below {len(scene.views)}, of the photos of {scene.name}', config.inputs, 'Left out, some are taken.')

        return config.inputs

    return photos.some_inputs(num_inputs_of(model))


def some_inputs(scene: Scene, count: int) -> tuple[int, ...]:
    """Positions of so many views: of a video, evenly over a stretch of its middle; of photos, those farthest from each other among the ones near its middle, so that they overlap."""
    total = len(scene.views)
    count = min(count, total)

    if scene.is_video:
        length = min(STRETCH, total - 1)
        return tuple((total - 1 - length) // 2 + step for step in evenly(length, count))

    distance = camera_distance(cameras_of(scene.views).camera_to_world)
    middle = int(distance.sum(dim = 1).argmin())
    pool = distance[middle].argsort()[:3 * count + 1].tolist()
    return tuple(sorted(farthest_point_sampling(distance, [middle], pool, count)))
