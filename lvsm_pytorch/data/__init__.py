"""Posed images. `read_scene` takes what it finds in a folder; every format is a file of its own."""

from __future__ import annotations

from pathlib import Path

from lvsm_pytorch.checks import fail
from lvsm_pytorch.data.sampling import Batch, SceneSource, Source, SyntheticSource
from lvsm_pytorch.data.scene import Scene, View, hold_out
from lvsm_pytorch.data.synthetic import synthetic_scene, synthetic_scenes
from lvsm_pytorch.data.transforms_json import FILE, read_transforms, write_transforms

__all__ = [
    'Batch',
    'Scene',
    'SceneSource',
    'Source',
    'SyntheticSource',
    'View',
    'hold_out',
    'read_scene',
    'read_transforms',
    'synthetic_scene',
    'synthetic_scenes',
    'write_transforms',
]


def read_scene(path: str | Path) -> Scene:
    """The scene of a folder (or of a JSON file) in any format that this library reads.

    Errors: ValueError for a folder in none of them, and for what the format's reader finds.
    """
    path = Path(path)

    if not (path / FILE).is_file() and not (path.is_file() and path.suffix == '.json'):
        there = sorted(entry.name for entry in path.iterdir())[:8] if path.is_dir() else 'no such folder'
        fail('data', f'must be a folder with a {FILE}', f'{path}: {there}', 'nerfstudio, instant-ngp and Blender write one; the README says what stands in it.')

    return read_transforms(path)
