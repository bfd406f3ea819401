"""Datasets: scenes by number, whatever the format, which is told by what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import NamedTuple, Protocol

import torch
from torch import Generator

from lvsm_pytorch.data.formats.chunks import Chunks
from lvsm_pytorch.data.formats.colmap import model_folder, read_colmap
from lvsm_pytorch.data.formats.lvsm_json import lvsm_files, read_lvsm
from lvsm_pytorch.data.formats.transforms_json import read_transforms, transforms_files
from lvsm_pytorch.data.photo_files import describe_unposed, posed_folder
from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.scene import EVERY, Scene
from lvsm_pytorch.data.synthetic import synthetic_scene
from lvsm_pytorch.errors import fail

KNOWN = 'a transforms.json (nerfstudio, instant-ngp, Blender, DL3DV), a COLMAP model, RealEstate10K chunks (.torch), or the LVSM authors\' JSON files; or a folder of such folders'

# of a dataset, scenes that are held out at most

MOST_HELD_OUT = 64


class Dataset(Protocol):
    """Scenes by number. format: in words. problems: what could not be used."""
    format: str
    problems: Problems

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scene:
        """Errors: BadView for a scene that can't be used."""
        ...

    def group(self, index: int) -> str:
        """Scenes of one group are read faster one after the other."""
        ...

    def name(self, index: int) -> str:
        """Of a scene, whether it can be used or not."""
        ...


class Scenes:
    """Scenes that are read when they are asked for, each by a function."""

    def __init__(self, format: str, readers: Sequence[Callable[[], Scene]], problems: Problems):
        self.format = format
        self.readers = readers
        self.problems = problems

    def __len__(self) -> int:
        return len(self.readers)

    def __getitem__(self, index: int) -> Scene:
        return self.readers[index]()

    def group(self, index: int) -> str:
        return ''

    def name(self, index: int) -> str:
        scene = self.problems.attempt(f'scene {index}', partial(self.__getitem__, index))
        return '' if scene is None else scene.name


def synthetic_dataset(num_scenes: int, image_size: int, problems: Problems) -> Scenes:
    """Built-in scenes that no training reaches, up to 1000 of them, of 12 views each."""
    return Scenes('built-in synthetic scenes', [partial(synthetic_scene, seed, num_views = 12, image_size = image_size) for seed in range(num_scenes)], problems)


class Subset:
    """Some scenes of a dataset, by their numbers in it."""

    def __init__(self, whole: Dataset, indices: Sequence[int]):
        self.whole = whole
        self.indices = indices
        self.format = whole.format
        self.problems = whole.problems

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Scene:
        return self.whole[self.indices[index]]

    def group(self, index: int) -> str:
        return self.whole.group(self.indices[index])

    def name(self, index: int) -> str:
        return self.whole.name(self.indices[index])


class Concat:
    """All scenes of several datasets, the first's first."""

    def __init__(self, datasets: Sequence[Dataset], problems: Problems):
        self.format = ', '.join(dict.fromkeys(dataset.format for dataset in datasets))
        self.problems = problems
        self.places = [(number, dataset, index) for number, dataset in enumerate(datasets) for index in range(len(dataset))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Scene:
        _, dataset, inner = self.places[index]
        return dataset[inner]

    def group(self, index: int) -> str:
        number, dataset, inner = self.places[index]
        group = dataset.group(inner)
        return group and f'{number}/{group}'

    def name(self, index: int) -> str:
        _, dataset, inner = self.places[index]
        return dataset.name(inner)


def open_dataset(path: str | Path, problems: Problems | None = None) -> Dataset:
    """The dataset in a folder (or of a file) in any format that this library reads. No scene is read yet.

    Errors: ValueError for what is in none of them.
    """
    path = Path(path)
    found = find_dataset(path, Problems() if problems is None else problems)

    if found is None and (loose := describe_unposed(path)) is not None:
        command = f'lvsm pose {quote(str(path))} {quote(str(posed_folder(path)))}'
        fail('data', f'must have poses: be {KNOWN}', f'{loose} in {path} without any', f'Find them by `{command}`, or add --pose to lvsm render, view, train, evaluate or inspect.')

    if found is None:
        there = sorted(entry.name for entry in path.iterdir())[:8] if path.is_dir() else 'a file' if path.exists() else 'nothing of that name'
        fail('data', f'must be {KNOWN}', f'{path}: {there}', 'Is it the folder above, or below?')

    return found


def find_dataset(path: Path, problems: Problems) -> Dataset | None:
    """As `open_dataset`, with None for what is no dataset."""
    found = recognised(path, problems)

    if found is None and path.is_dir():
        inner = [each for folder in folders_in(path) if (each := recognised(folder, problems)) is not None]
        found = Concat(inner, problems) if inner else None

    return found


def recognised(path: Path, problems: Problems) -> Dataset | None:
    """Cheap looks first: what a folder holds says what it is."""
    if transforms_files(path) and not lvsm_files(path):
        return Scenes('transforms.json', [partial(read_transforms, path, problems)], problems)

    if path.is_dir() and next(path.glob('*.torch'), None) is not None:
        return Chunks(path, problems)

    if path.is_dir() and model_folder(path) is not None:
        return Scenes('COLMAP model', [partial(read_colmap, path, problems)], problems)

    files = lvsm_files(path)

    if files:
        root = path if path.is_dir() else path.parent
        return Scenes('LVSM authors\' JSON', [partial(read_lvsm, file, root, problems) for file in files], problems)

    return None


def folders_in(path: Path) -> list[Path]:
    """Folders in a folder, and in these, sorted: DL3DV has its scenes two below."""
    first = sorted(entry for entry in path.iterdir() if entry.is_dir())
    return [folder for each in first for folder in (each, *sorted(entry for entry in each.iterdir() if entry.is_dir()))]


class Split(NamedTuple):
    training: Dataset
    held_out: Dataset


def split_dataset(path: str | Path, problems: Problems | None = None) -> Split:
    """Scenes to train with, and those held out: of a folder with `train` and `test`, these; else every eighth scene, up to 64.

    Errors: ValueError for what is no dataset, and for one with fewer than two scenes.
    """
    path = Path(path)
    problems = Problems() if problems is None else problems

    if has_split(path):
        test = open_dataset(path / 'test', problems)
        return Split(open_dataset(path / 'train', problems), Subset(test, range(0, len(test), max(len(test) // MOST_HELD_OUT, 1))[:MOST_HELD_OUT]))

    return split_scenes(open_dataset(path, problems))


def open_test(path: str | Path, problems: Problems | None = None) -> Dataset:
    """What there is to test with: of a folder with `train` and `test`, the latter; else all. Errors: as `open_dataset`."""
    path = Path(path)
    return open_dataset(path / 'test' if has_split(path) else path, problems)


def has_split(path: Path) -> bool:
    """Whether a folder is one of `train` and `test`."""
    return (path / 'train').is_dir() and (path / 'test').is_dir() and recognised(path, Problems()) is None


def split_scenes(dataset: Dataset) -> Split:
    """Every eighth scene is held out, up to 64. Errors: ValueError for fewer than two scenes."""
    if len(dataset) < 2:
        fail('data', 'must have at least two scenes for some of them to be held out', len(dataset), 'Of a single scene, views are held out: `hold_out`.')

    held_out = list(range(0, len(dataset), EVERY))[:MOST_HELD_OUT]
    return Split(Subset(dataset, sorted(set(range(len(dataset))) - set(held_out))), Subset(dataset, held_out))


def shuffled_order(dataset: Dataset, epoch: int, seed: int, *, together: int = 8) -> list[int]:
    """Every scene of the dataset once, in an order that seed and epoch alone decide.

    Files are shuffled, and the scenes of so many of them `together`, so that few are open at a time and neighbours are not of one file.
    """
    generator = Generator().manual_seed((seed * 1_000_003 + epoch) % 2 ** 63)

    def shuffle(items: list) -> list:
        return [items[index] for index in torch.randperm(len(items), generator = generator).tolist()]

    groups: dict[str, list[int]] = {}

    for index in range(len(dataset)):
        groups.setdefault(dataset.group(index), []).append(index)

    files = shuffle(list(groups.values()))
    return [index for start in range(0, len(files), together) for index in shuffle([index for file in files[start:start + together] for index in file])]
