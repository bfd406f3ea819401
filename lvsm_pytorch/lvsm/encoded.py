"""A scene that a model has read."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_tensors, write_whole
from lvsm_pytorch.lvsm.conditioning.plane_sweep import SourceViews


class EncodedScene(NamedTuple):
    """What `LVSM.encode` gives and `LVSM.render` takes, of b scenes.

    tokens: (b v h w d) of the inputs as they enter the blocks, in the paper's mode; else None.
    keys_values: for each block the inputs' keys and values, both (b heads v·h·w dim_head); none in the paper's mode.
    valid_mask: (b v·h·w) bool, False for tokens of padded views; None where there are none.
    at: (b v h w e) of `CameraEncoding.places` in the paper's mode, and reference: (b 4 4), the camera to world that it is told by; of a model
        whose attention sees cameras, else None.
    photos: the input views, of a model with `num_depth_planes`, whose targets look colours up in them; else None.
    """
    tokens: Tensor | None
    keys_values: tuple[tuple[Tensor, Tensor], ...]
    valid_mask: Tensor | None
    at: Tensor | None = None
    reference: Tensor | None = None
    photos: SourceViews | None = None

    @property
    def num_scenes(self) -> int:
        return len(self.keys_values[0][0] if self.tokens is None else self.tokens)

    def to(self, *args: Any, **kwargs: Any) -> EncodedScene:
        """On another device, or in another precision, as `Tensor.to` has it; the mask stays boolean, and where things are, and the photos, in float32."""
        tokens = None if self.tokens is None else self.tokens.to(*args, **kwargs)
        keys_values = tuple((keys.to(*args, **kwargs), values.to(*args, **kwargs)) for keys, values in self.keys_values)
        device = keys_values[0][0].device if tokens is None else tokens.device
        valid_mask, at, reference = (None if each is None else each.to(device) for each in (self.valid_mask, self.at, self.reference))
        photos = None if self.photos is None else SourceViews(*(None if each is None else each.to(device) for each in self.photos))  # pyright: ignore[reportArgumentType]
        return EncodedScene(tokens, keys_values, valid_mask, at, reference, photos)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a file, whole or not at all."""
        write_whole(Path(path), lambda temporary: torch.save(dict(self._asdict(), keys_values = list(self.keys_values), photos = None if self.photos is None else tuple(self.photos)), temporary))

    @classmethod
    def load(cls, path: str | PathLike[str], map_location: Any = None) -> EncodedScene:
        """Reads what `save` wrote, on the device that `map_location` says; no code in the file is run.

        Errors: ValueError for a file that is missing, broken or no scene.
        """
        parts = read_tensors(path, argument = 'path', map_location = map_location)

        if not isinstance(parts, dict) or set(parts) != set(cls._fields):
            fail('path', 'must be a file that EncodedScene.save wrote', path, 'Encode the scene and save it anew.')

        photos = None if parts['photos'] is None else SourceViews(*parts['photos'])
        return cls(**{**parts, 'keys_values': tuple(parts['keys_values']), 'photos': photos})
