"""Device and mode of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import Module


@contextmanager
def in_eval_mode(model: Module) -> Iterator[None]:
    was_training = model.training
    model.eval()

    try:
        yield
    finally:
        model.train(was_training)


def pick_device(name: str) -> torch.device:
    """Returns a device by name; 'auto' is a GPU if there is one.

    Raises:
        ValueError: If the device is not available.
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu'

    try:
        return torch.empty(0, device = name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'device: must be an available device, but got {name}: {error}. Use auto or cpu.') from error
