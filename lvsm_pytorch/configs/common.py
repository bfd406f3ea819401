"""What the options of several commands share. Nothing in this folder needs torch, so that --help is fast."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Literal

# worlds that poses are normalised to, and filters that photos are resized with

Frame = Literal['inputs', 'inputs_and_targets', 'scene']
Filter = Literal['lanczos', 'bicubic']


class Expanded:
    """Base of the configs: expands `~` in paths, which a shell leaves alone in `--data=~/photos` and YAML never expands."""

    def __post_init__(self) -> None:
        for field in fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)

            if isinstance(value, Path):
                object.__setattr__(self, field.name, value.expanduser())
            elif isinstance(value, tuple) and value and all(isinstance(each, Path) for each in value):
                object.__setattr__(self, field.name, tuple(each.expanduser() for each in value))
