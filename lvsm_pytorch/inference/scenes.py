"""Which scene is rendered, and which of its views the model gets."""

from __future__ import annotations

from pathlib import Path

from lvsm_pytorch.configs.config import RenderConfig
from lvsm_pytorch.configs.yaml import config_beside
from lvsm_pytorch.data.dataset import Dataset, open_test, synthetic_dataset
from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.scene import Scene, cameras_of, unit_of_set
from lvsm_pytorch.data.sources import SyntheticSource
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.view_selection import camera_distance, evenly, farthest_point_sampling
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import num_inputs_of

# frames of a video from the first to the last that is seen: about what models of videos are trained with

STRETCH = 100


def data_of(model: Path, data: Path | None) -> Path | None:
    """The data that are named, or those of the run in the model's folder; None where that has learnt from built-in scenes."""
    run = config_beside(model)
    return run.data if data is None and run is not None else data


def scenes_of(data: Path | None, image_size: int) -> Dataset:
    """What there is to see: data, or built-in scenes of so many pixels."""
    problems = Problems()
    return synthetic_dataset(SyntheticSource.FIRST_TRAINING_SEED, image_size, problems) if data is None else open_test(data, problems)


def scene_of(scenes: Dataset, number: int) -> Scene:
    """Errors: ValueError for a number that there is none of."""
    if not 0 <= number < len(scenes):
        fail('scene', f'must be from 0 up to below {len(scenes)}, the number of scenes', number, 'Left out, it is the first.')

    return scenes[number]


def unit_for(model: LVSM, scene: Scene) -> float | None:
    """A set of photos keeps one unit, as in training, whichever of them are seen; None where the model knows it by itself."""
    known = model.trained_for
    return unit_of_set(scene) if known is not None and known.pose_frame == 'inputs' and known.unit is None else None


def inputs_of(config: RenderConfig, model: LVSM, scene: Scene) -> tuple[int, ...]:
    """Positions of the views that the model sees."""
    if config.inputs is not None:
        if not config.inputs or not all(0 <= number < len(scene.views) for number in config.inputs):
            fail('inputs', f'must be numbers from 0 up to below {len(scene.views)}, of the photos of {scene.name}', config.inputs, 'Left out, some are taken.')

        return config.inputs

    return some_inputs(scene, num_inputs_of(model))


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
