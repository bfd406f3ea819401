"""Training runs on disk: a folder with the config of the run, and the model as `LVSM.from_pretrained` reads it."""

from __future__ import annotations

from pathlib import Path

import torch

from lvsm_pytorch.checks import fail
from lvsm_pytorch.config import TrainConfig, config_from_yaml, config_to_yaml
from lvsm_pytorch.data import SyntheticSource
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.lvsm import LVSM, TrainedFor

CONFIG = 'config.yaml'


def model_of(config: TrainConfig) -> LVSM:
    """A new model, with random weights."""
    model = LVSM(
        config.dim,
        max_image_size = config.image_size,
        patch_size = config.patch_size,
        depth = config.depth,
        dim_head = config.dim_head,
        input_attends_target = config.input_attends_target,
        gradient_checkpointing = config.gradient_checkpointing,
    )
    unit = SyntheticSource.UNIT if config.data is None and config.pose_frame == 'inputs' else None
    model.trained_for = TrainedFor(str(config.pose_frame), (config.image_size, config.image_size), config.num_inputs, unit)
    return model


def save_config(run: Path, config: TrainConfig) -> None:
    write_whole(run / CONFIG, lambda temporary: temporary.write_text(config_to_yaml(config), encoding = 'utf-8'))


def load_run(run: Path) -> tuple[TrainConfig, LVSM]:
    """The config and the trained model of a run, in eval mode on the CPU.

    Errors: ValueError for a folder that is no run, or whose weights don't fit its config.
    """
    if not (run / CONFIG).is_file():
        fail('run', 'must be a folder that `lvsm train` wrote', f'{run} without {CONFIG}', 'Train first: lvsm train --out RUN.')

    return config_from_yaml((run / CONFIG).read_text(encoding = 'utf-8')), LVSM.from_pretrained(run)


def pick_device(name: str) -> torch.device:
    """'auto' is a GPU where there is one. Errors: ValueError for a device that isn't there."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu'

    try:
        return torch.empty(0, device = name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'device: must be a device that is here, but got {name}: {error}. Use auto or cpu.') from error
