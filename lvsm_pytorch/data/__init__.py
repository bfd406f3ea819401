"""Datasets of posed images in all supported formats, and training samples of them. `open_dataset` detects the format."""

from __future__ import annotations

from pathlib import Path

from lvsm_pytorch.data.dataset import Dataset, Scenes, Split, Subset, shuffled_order, split_scenes, synthetic_dataset
from lvsm_pytorch.data.discovery import has_split, open_dataset, open_test, split_dataset, split_each
from lvsm_pytorch.data.formats.chunks import Chunks, write_chunks
from lvsm_pytorch.data.formats.colmap import read_colmap, write_colmap
from lvsm_pytorch.data.formats.lvsm_json import read_lvsm, write_lvsm
from lvsm_pytorch.data.formats.transforms_json import read_transforms, write_transforms
from lvsm_pytorch.data.loading import can_have_workers, training_views
from lvsm_pytorch.data.photo_sources import DatasetSource, SceneSource
from lvsm_pytorch.data.pose_folder import Posed
from lvsm_pytorch.data.posing import find_poses
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, View, cameras_of, hold_out
from lvsm_pytorch.data.sources import Batch, Source, SyntheticSource
from lvsm_pytorch.data.synthetic import synthetic_scene, synthetic_scenes
from lvsm_pytorch.data.world_source import WorldSource
from lvsm_pytorch.errors import fail

__all__ = [
    'BadView',
    'Batch',
    'Chunks',
    'Dataset',
    'DatasetSource',
    'Posed',
    'Problems',
    'Scene',
    'SceneSource',
    'Scenes',
    'Source',
    'Split',
    'Subset',
    'SyntheticSource',
    'View',
    'WorldSource',
    'cameras_of',
    'can_have_workers',
    'find_poses',
    'has_split',
    'hold_out',
    'open_dataset',
    'open_test',
    'read_colmap',
    'read_lvsm',
    'read_scene',
    'read_transforms',
    'shuffled_order',
    'split_dataset',
    'split_each',
    'split_scenes',
    'synthetic_dataset',
    'synthetic_scene',
    'synthetic_scenes',
    'training_views',
    'write_chunks',
    'write_colmap',
    'write_lvsm',
    'write_transforms',
]


def read_scene(path: str | Path) -> Scene:
    """Reads a folder or file with a single scene, in any supported format.

    Raises:
        ValueError: If the format is not supported, there are several scenes, or the scene is invalid.
    """
    dataset = open_dataset(path)

    if len(dataset) != 1:
        fail('data', 'must have one scene', f'{len(dataset)} in {path}', 'Read them with open_dataset(path)[number].')

    return dataset[0]
