"""Choice of the scene to render and of its input views."""

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

# number of frames of a video between the first and the last input view, about as in training on videos

STRETCH = 100


def data_of(model: Path, data: Path | None) -> Path | tuple[Path, ...] | None:
    """Returns `data`, or by default the dataset of the run in the model's folder; None if that was trained on built-in scenes."""
    return data_beside(model) if data is None else data


def scenes_of(data: Path | tuple[Path, ...] | None, image_size: int) -> Dataset:
    """Opens the test split of a dataset, or built-in scenes of `image_size` pixels if `data` is None."""
    problems = Problems()
    return synthetic_dataset(SyntheticSource.FIRST_TRAINING_SEED, image_size, problems) if data is None else open_test(data, problems)


def scene_of(scenes: Dataset, number: int) -> Scene:
    """Returns a scene by its number.

    Raises:
        ValueError: If the number is out of range.
    """
    if not 0 <= number < len(scenes):
        fail('scene', f'must be from 0 up to below {len(scenes)}, the number of scenes', number, 'Left out, it is the first.')

    return scenes[number]


def unit_for(model: LVSM, scene: Scene) -> float | None:
    """Returns the unit of length of a photo set, which does not depend on the choice of inputs, as in training; None if the model does not use it."""
    known = model.trained_for
    return unit_of_set(scene) if known is not None and known.takes_unit_of_set else None


class FittedViews:
    """Photos of a scene, read on demand, resized, cropped and cached.

    Args:
        scene: The scene.
        size: (height, width) of the photos in pixels.
        problems: Record of unreadable photos.
    """

    KEPT = 64    # size of the cache

    def __init__(self, scene: Scene, size: tuple[int, int], problems: Problems | None = None):
        self.scene = scene
        self.size = size
        self.problems = Problems() if problems is None else problems
        self.bad: set[int] = set()    # numbers of photos that could not be read
        self.read = lru_cache(maxsize = self.KEPT)(self.read_anew)

    def read_anew(self, number: int) -> tuple[Tensor, Tensor] | None:
        view = self.scene.views[number]
        found = self.problems.attempt(f'{self.scene.name}/{view.name}', partial(view.fitted, self.size))

        if found is None:
            self.bad.add(number)

        return found

    def of(self, numbers: Sequence[int]) -> tuple[list[Tensor], Cameras]:
        """Returns images (3 h w) in [0, 1], and their cameras.

        Raises:
            BadView: If one can't be read.
        """
        found = {number: self.read(number) for number in numbers}

        for number, each in found.items():
            if each is None:
                fail('inputs', 'must be photos that can be read', f'{number}, {self.scene.views[number].name}', 'Choose others.', BadView)

        images, intrinsics = zip(*(each for each in found.values() if each is not None), strict = True)
        return list(images), Cameras(cameras_of([self.scene.views[number] for number in numbers]).camera_to_world, torch.stack(intrinsics))

    def some_inputs(self, count: int) -> tuple[int, ...]:
        """Chooses inputs by `some_inputs` among the readable photos.

        Raises:
            ValueError: If no photo is readable.
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
    """Returns the positions of the input views: those of the config, or some of the readable ones."""
    if config.inputs is not None:
        scene = photos.scene

        if not config.inputs or not all(0 <= number < len(scene.views) for number in config.inputs):
            fail('inputs', f'must be numbers from 0 up to below {len(scene.views)}, of the photos of {scene.name}', config.inputs, 'Left out, they are chosen automatically.')

        return config.inputs

    return photos.some_inputs(num_inputs_of(model))


def some_inputs(scene: Scene, count: int) -> tuple[int, ...]:
    """Chooses `count` input views, and returns their positions.

    Frames of a video are evenly spaced over `STRETCH` frames around its middle. Photos are chosen by farthest point sampling among those nearest to
    the central one, so that they overlap.
    """
    total = len(scene.views)
    count = min(count, total)

    if scene.is_video:
        length = min(STRETCH, total - 1)
        return tuple((total - 1 - length) // 2 + step for step in evenly(length, count))

    distance = camera_distance(cameras_of(scene.views).camera_to_world)
    middle = int(distance.sum(dim = 1).argmin())
    pool = distance[middle].argsort()[:3 * count + 1].tolist()
    return tuple(sorted(farthest_point_sampling(distance, [middle], pool, count)))
