"""Datasets: scenes by number, in any format, which is detected from the files."""

from __future__ import annotations

import re
import warnings
from collections import Counter
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

TRANSFORMS, COLMAP, LVSM_JSON = 'transforms.json', 'COLMAP model', 'LVSM authors\' JSON'

# how far below a folder scenes are looked for; folders of images alone; and folders, in order of preference, in which datasets have the same photos
# of one scene in several ways: DL3DV's benchmark, ScanNet++, workspaces of COLMAP and gaussian splatting

DEPTH = 3
IMAGES = r'(images|input|depths?|masks?|frames)(_\d+)?'
COPIES = ('nerfstudio', 'dslr', 'gaussian_splat', 'dense', 'undistorted', 'colmap', 'sparse', 'distorted', 'iphone')


class Dataset(Protocol):
    """Scenes by number.

    Attributes:
        format: In words.
        problems: What could not be used.
    """
    format: str
    problems: Problems

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scene:
        """The scene of a number.

        Raises:
            BadView: For a scene that can't be used.
        """
        ...

    def group(self, index: int) -> str:
        """Scenes of one group are read faster one after the other."""
        ...

    def name(self, index: int) -> str:
        """Of a scene, whether it can be used or not."""
        ...

    def label(self, index: int) -> str:
        """Where a scene is, for messages; nothing is read for it."""
        ...


class Scenes:
    """Scenes that are read on access, each by a function.

    Args:
        format: In words.
        readers: One for each scene.
        problems: Where what can't be used is noted.
        names: Of the scenes, where they are known without reading.
        labels: Where each is, for messages.
    """

    def __init__(self, format: str, readers: Sequence[Callable[[], Scene]], problems: Problems, names: Sequence[str] | None = None, labels: Sequence[str] | None = None):
        self.format = format
        self.readers = readers
        self.problems = problems
        self.names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.readers)

    def __getitem__(self, index: int) -> Scene:
        return self.readers[index]()

    def group(self, index: int) -> str:
        return ''

    def name(self, index: int) -> str:
        if self.names is not None:
            return self.names[index]

        scene = self.problems.attempt(self.label(index), partial(self.__getitem__, index))
        return '' if scene is None else scene.name

    def label(self, index: int) -> str:
        return f'scene {index}' if self.labels is None else self.labels[index]


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

    def label(self, index: int) -> str:
        return self.whole.label(self.indices[index])


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

    def label(self, index: int) -> str:
        _, dataset, inner = self.places[index]
        return dataset.label(inner)


def open_dataset(path: str | Path, problems: Problems | None = None) -> Dataset:
    """The dataset in a folder (or of a file) in any format that this library reads. No scene is read yet.

    What lies in the folder of a scene is no scene of its own. A scene is called as its folder is, and where several are called so, by its path.

    Raises:
        ValueError: For what is in none of them; for photos or a video without poses it says how to find these.
    """
    path = Path(path).expanduser()
    found = find_dataset(path, Problems() if problems is None else problems)

    if found is None and (loose := describe_unposed(path)) is not None:
        command = f'lvsm pose --data {quote(str(path))} --out {quote(str(posed_folder(path)))}'
        fail('data', 'must have poses', f'{loose} in {path} without any', f'Find them by `{command}`, or add --pose to lvsm render, view, train, evaluate or inspect.')

    if found is None:
        there = sorted(entry.name for entry in path.iterdir())[:8] if path.is_dir() else 'a file' if path.exists() else 'nothing of that name'
        fail('data', f'must be {KNOWN}', f'{path}: {there}', 'Is it the folder above, or below?')

    return found


def find_dataset(path: Path, problems: Problems) -> Dataset | None:
    """As `open_dataset`, with None for what is no dataset."""
    found = recognised(path, problems)

    if found is None and path.is_dir():
        folders = scene_folders(path)
        names = unique_names(path, folders)
        inner = [each for folder, name in zip(folders, names, strict = True) if (each := recognised(folder, problems, name)) is not None]
        found = Concat(inner, problems) if inner else None

    return found


def format_of(path: Path) -> str | None:
    """Cheap checks: the files in a folder tell its format."""
    if transforms_files(path) and not lvsm_files(path):
        return TRANSFORMS

    if path.is_dir() and next(path.glob('*.torch'), None) is not None:
        return Chunks.format

    if path.is_dir() and model_folder(path) is not None:
        return COLMAP

    return LVSM_JSON if lvsm_files(path) else None


def recognised(path: Path, problems: Problems, name: str | None = None) -> Dataset | None:
    """The dataset of a folder, or of a file.

    Args:
        name: Of the scene, where there is one; left out, its folder's.
    """
    format = format_of(path)
    folder = path if path.is_dir() else path.parent
    name = name or folder.resolve().name

    if format == TRANSFORMS:
        return Scenes(format, [partial(read_transforms, path, problems, name)], problems, [name], [str(path)])

    if format == COLMAP:
        return Scenes(format, [partial(read_colmap, path, problems, name)], problems, [name], [str(path)])

    if format == LVSM_JSON:
        files = lvsm_files(path)
        return Scenes(format, [partial(read_lvsm, file, folder, problems) for file in files], problems, labels = [str(file) for file in files])

    return Chunks(path, problems) if format == Chunks.format else None


def scene_folders(path: Path, depth: int = DEPTH) -> list[Path]:
    """Folders of scenes below a folder, sorted: DL3DV has its scenes two below. Those below a scene, and other copies of its photos, are left out."""
    found: dict[Path, Path] = {}  # by where they are, links followed
    left_out: list[Path] = []

    def search(folder: Path, depth: int) -> None:
        inner = [each for each in sorted(entry for entry in folder.iterdir() if entry.is_dir()) if not each.name.startswith('.') and not re.fullmatch(IMAGES, each.name)]
        scenes = [each for each in inner if format_of(each) is not None]
        copies = sorted((each for each in scenes if each.name in COPIES), key = lambda each: COPIES.index(each.name))[1:]
        left_out.extend(copies)

        for each in inner:
            if each in scenes and each not in copies:
                found.setdefault(each.resolve(), each)
            elif each not in scenes and depth > 1:
                search(each, depth - 1)

    search(path, depth)

    if left_out:
        warnings.warn(f'{len(left_out)} folders are left out, since they hold the photos of a folder beside them, such as {left_out[0]}', stacklevel = 3)

    return list(found.values())


def unique_names(root: Path, folders: Sequence[Path]) -> list[str]:
    """Names of folders, and where several have one, their paths below the root."""
    count = Counter(folder.name for folder in folders)
    return [folder.name if count[folder.name] == 1 else folder.relative_to(root).as_posix() for folder in folders]


class Split(NamedTuple):
    training: Dataset
    held_out: Dataset


def split_dataset(path: str | Path, problems: Problems | None = None) -> Split:
    """Scenes to train with, and those held out: of a folder with `train` and `test`, these; else every eighth scene, up to 64.

    Raises:
        ValueError: For what is no dataset, and for one with fewer than two scenes.
    """
    path = Path(path).expanduser()
    problems = Problems() if problems is None else problems

    if has_split(path):
        test = open_dataset(path / 'test', problems)
        return Split(open_dataset(path / 'train', problems), Subset(test, range(0, len(test), max(len(test) // MOST_HELD_OUT, 1))[:MOST_HELD_OUT]))

    return split_scenes(open_dataset(path, problems))


def open_test(path: str | Path, problems: Problems | None = None) -> Dataset:
    """What there is to test with: of a folder with `train` and `test`, the latter; else all.

    Raises:
        ValueError: As `open_dataset`.
    """
    path = Path(path).expanduser()
    return open_dataset(path / 'test' if has_split(path) else path, problems)


def has_split(path: Path) -> bool:
    """Whether a folder is one of `train` and `test`."""
    path = path.expanduser()
    return (path / 'train').is_dir() and (path / 'test').is_dir() and recognised(path, Problems()) is None


def split_scenes(dataset: Dataset) -> Split:
    """Every eighth scene is held out, up to 64.

    Raises:
        ValueError: For fewer than two scenes.
    """
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
