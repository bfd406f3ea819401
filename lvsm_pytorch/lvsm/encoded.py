"""Encoded scenes: the state between `LVSM.encode` and `LVSM.render`."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_tensors, write_whole
from lvsm_pytorch.lvsm.attention import KeysValues


class EncodedScene(NamedTuple):
    """A batch of b encoded scenes, from `LVSM.encode` for `LVSM.render`.

    Attributes:
        tokens: (b v h w d), input tokens before the first block, with `input_attends_target`; otherwise None.
        keys_values: Key-value cache of the input tokens for each block, both (b heads v·h·w dim_head), without `input_attends_target`; otherwise empty.
        valid_mask: (b v·h·w) bool, False for tokens of padding; None without padding.
        pose: (b v h w e), pose encodings of the tokens.
        reference: (b 4 4), reference pose of the camera encoding; None if it has none.
        source: Tensors for the plane sweep by name (`NoPlaneSweep.encode`); None without one.
    """
    tokens: Tensor | None
    keys_values: tuple[KeysValues, ...] = ()
    valid_mask: Tensor | None = None
    pose: Tensor | None = None
    reference: Tensor | None = None
    source: dict[str, Tensor] | None = None

    @property
    def num_scenes(self) -> int:
        return len(self.keys_values[0][0] if self.tokens is None else self.tokens)

    def to(self, *args: Any, **kwargs: Any) -> EncodedScene:
        """Moves to another device or type, as `Tensor.to`. Masks stay boolean; poses and sources of the plane sweep stay float32."""
        tokens = None if self.tokens is None else self.tokens.to(*args, **kwargs)
        keys_values = tuple((keys.to(*args, **kwargs), values.to(*args, **kwargs)) for keys, values in self.keys_values)
        device = keys_values[0][0].device if tokens is None else tokens.device
        valid_mask, pose, reference = (None if each is None else each.to(device) for each in (self.valid_mask, self.pose, self.reference))
        source = None if self.source is None else {name: each.to(device) for name, each in self.source.items()}
        return EncodedScene(tokens, keys_values, valid_mask, pose, reference, source)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a file atomically."""
        write_whole(Path(path), lambda temporary: torch.save(self._asdict(), temporary))

    @classmethod
    def load(cls, path: str | PathLike[str], map_location: Any = None) -> EncodedScene:
        """Reads a file of `save` onto the device `map_location`, without running code from it.

        Raises:
            ValueError: If the file is missing, broken or not of `save`.
        """
        parts = read_tensors(path, argument = 'path', map_location = map_location)

        if not isinstance(parts, dict) or set(parts) != set(cls._fields):
            fail('path', 'must be a file that EncodedScene.save wrote', path, 'Encode the scene and save it again.')

        return cls(**parts)
