"""Training runs: model and data of a config, and loading of a run's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import load_run_config
from lvsm_pytorch.data import DatasetSource, Problems, Scene, SceneSource, Source, SyntheticSource, WorldSource, can_have_workers, has_split, open_dataset, split_dataset, split_scenes, synthetic_scene
from lvsm_pytorch.errors import fail
from lvsm_pytorch.lvsm.losses import PerceptualLoss
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import TrainedFor

BEST = 'best'
CHECKPOINTS = 'checkpoints'

# number of views of a scene that is overfitted, at most

MAX_OVERFIT_VIEWS = 32


def model_of(config: TrainConfig, source: Source | None = None) -> LVSM:
    """A new model with random weights.

    Args:
        source: Training samples. Their unit of length or world is saved with the model.
    """
    model = LVSM(
        config.dim,
        max_image_size = max(config.size),
        patch_size = config.patch_size,
        depth = config.depth,
        heads = config.heads,
        dim_head = config.dim_head,
        dropout_input_ray_prob = config.dropout_input_ray_prob,
        decoder_kwargs = config.decoder_kwargs,
        perceptual_loss = None if config.perceptual_loss is None else perceptual_loss(config.perceptual_loss),
        perceptual_loss_weight = config.perceptual_loss_weight,
        input_attends_target = config.input_attends_target,
        camera_encoding = config.camera_encoding,
        num_depth_planes = config.num_depth_planes,
        near_plane = config.near_plane,
        plane_sweep = config.plane_sweep,
        image_loss = config.image_loss,
        ssim_loss_weight = config.ssim_loss_weight,
        depth_loss_weight = config.depth_loss_weight,
        gradient_checkpointing = config.gradient_checkpointing,
    )
    model.trained_for = TrainedFor(str(config.pose_frame), config.size, config.num_inputs)

    if source is not None and source.frame == 'inputs':
        model.trained_for = model.trained_for._replace(unit = source.unit, scale = source.scale)
    elif source is not None and source.world is not None:
        model.trained_for = model.trained_for._replace(world = source.world.tolist())

    return model


def perceptual_loss(weights: str) -> PerceptualLoss:
    """The perceptual loss of `TrainConfig.perceptual_loss`."""
    if weights == 'torchvision':
        return PerceptualLoss.from_torchvision()

    return PerceptualLoss.from_matconvnet(weights) if weights.endswith('.mat') else PerceptualLoss.from_torchvision(weights)


def source_of(config: TrainConfig, problems: Problems | None = None) -> Source:
    """Training samples of a config. Unusable views and scenes are recorded in `problems`."""
    problems = Problems() if problems is None else problems
    options: dict[str, Any] = dict(
        num_inputs = config.num_inputs, num_targets = config.num_targets, random_num_inputs = config.random_num_inputs, samples_per_step = config.batch_size,
        image_size = config.image_size, seed = config.seed,
    )

    if config.pose_frame is not None:
        options.update(frame = config.pose_frame)

    if config.data is None and not config.overfit_one_scene:
        return WorldSource(**options) if config.synthetic == 'worlds' else SyntheticSource(**options)

    options.update(scale = config.scale or ('depth' if config.plane_sweep == 'features' and config.num_depth_planes > 0 else 'cameras'))

    if config.overfit_one_scene:
        return SceneSource(first_scene(config, problems), problems = problems, **options)

    assert config.data is not None

    if isinstance(config.data, tuple) or has_split(config.data):
        split = split_dataset(config.data, problems)
    else:
        dataset = open_dataset(config.data, problems)

        if len(dataset) == 1:
            return SceneSource(dataset[0], problems = problems, **options)

        split = split_scenes(dataset)

    return DatasetSource(split, frame_distances = (config.min_frame_distance, config.max_frame_distance), **options)


def first_scene(config: TrainConfig, problems: Problems) -> Scene:
    """The first usable scene, with its first views if it has many.

    Raises:
        ValueError: If no scene is usable.
    """
    if config.data is None:
        return synthetic_scene(SyntheticSource.FIRST_TRAINING_SEED + config.seed, num_views = MAX_OVERFIT_VIEWS, image_size = max(config.size))

    first = config.datasets[0]
    dataset = split_dataset(first, problems).training if has_split(first) else open_dataset(first, problems)
    scenes = (problems.attempt(dataset.label(index), lambda index = index: dataset[index]) for index in range(len(dataset)))
    scene = next((scene for scene in scenes if scene is not None), None)

    if scene is None:
        fail('data', 'must have at least one scene that can be used', f'none of {len(dataset)}', problems.summary(most = 5))

    return replace(scene.only(range(min(len(scene.views), MAX_OVERFIT_VIEWS))), held_out = frozenset())


def workers_of(config: TrainConfig, device: torch.device) -> int:
    """Number of data loading processes."""
    if config.workers is not None:
        return config.workers

    return 4 if can_have_workers() and device.type != 'cpu' else 0


def load_run(run: Path) -> tuple[TrainConfig, LVSM]:
    """Config and trained model of a run, in eval mode on the CPU.

    Raises:
        ValueError: If the folder is no run, or its weights don't fit its config.
    """
    return load_run_config(run), LVSM.from_pretrained(run)
