"""Runs on disk: a folder with a config and weights."""

from __future__ import annotations

from pathlib import Path

import torch

from lvsm_pytorch.checks import fail
from lvsm_pytorch.config import TrainConfig, config_from_yaml, config_to_yaml
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.lvsm import LVSM

CONFIG, WEIGHTS = 'config.yaml', 'model.safetensors'


def model_of(config: TrainConfig) -> LVSM:
    """A new model, with random weights."""
    return LVSM(config.dim, max_image_size = config.image_size, patch_size = config.patch_size, depth = config.depth, dim_head = config.dim_head)


def save_config(run: Path, config: TrainConfig) -> None:
    write_whole(run / CONFIG, lambda temporary: temporary.write_text(config_to_yaml(config), encoding = 'utf-8'))


def save_weights(run: Path, model: LVSM) -> None:
    """Whole or not at all: a process killed while saving leaves the old file."""
    from safetensors.torch import save_file

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_whole(run / WEIGHTS, lambda temporary: save_file(weights, temporary))


def load_run(run: Path) -> tuple[TrainConfig, LVSM]:
    """The config and the trained model of a run, in eval mode on the CPU.

    Errors: ValueError for a folder that is no run, or whose weights don't fit its config.
    """
    from safetensors.torch import load_file

    missing = [name for name in (CONFIG, WEIGHTS) if not (run / name).is_file()]

    if missing:
        fail('run', f'must be a folder that `lvsm train` wrote, with {CONFIG} and {WEIGHTS}', f'{run} without {missing}', 'Train first: lvsm train --out RUN.')

    config = config_from_yaml((run / CONFIG).read_text(encoding = 'utf-8'))
    model = model_of(config)

    try:
        model.load_state_dict(load_file(run / WEIGHTS), strict = True)
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f'run: must have weights that fit its config, but got {run / WEIGHTS}: {error}. Was one of the files replaced?') from error

    return config, model.eval()


def pick_device(name: str) -> torch.device:
    """'auto' is a GPU where there is one. Errors: ValueError for a device that isn't there."""
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu'

    try:
        return torch.empty(0, device = name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'device: must be a device that is here, but got {name}: {error}. Use auto or cpu.') from error
