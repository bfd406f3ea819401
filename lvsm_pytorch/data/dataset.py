"""Datasets, which are sequences of scenes, with subsets, concatenation, and a split into training and held-out scenes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Protocol

from lvsm_pytorch.data.order import LANES, Complement, shuffled
from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.scene import EVERY, Scene
from lvsm_pytorch.data.synthetic import synthetic_scene
from lvsm_pytorch.errors import fail

# maximum number of held-out scenes of a dataset

MOST_HELD_OUT = 64


class Dataset(Protocol):
    """Interface of a dataset, a sequence of scenes.

    Attributes:
        format: Name of the data format.
        problems: Record of unusable views and scenes.
    """
    format: str
    problems: Problems

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scene:
        """Reads a scene.

        Raises:
            BadView: If it can't be used.
        """
        ...

    @property
    def starts(self) -> Sequence[int]:
        """Number of the first scene of each file, ascending from 0; a range if each scene has its own file. Scenes of one file are faster to read one after the other."""
        ...

    def prepare(self, index: int) -> None:
        """Prefetches a remote scene in the background."""
        ...

    def name(self, index: int) -> str:
        """Returns the name of a scene, usable or not, without reading its images."""
        ...

    def label(self, index: int) -> str:
        """Returns the location of a scene for messages, without reading it."""
        ...


class Scenes:
    """Dataset whose scenes are read on access, each by a function.

    Args:
        format: Name of the data format.
        readers: Functions that read the scenes.
        problems: Record of unusable views and scenes.
        names: Names of the scenes, or a function from a scene's number to its name. By default the scene is read to find its name.
        labels: Locations of the scenes, for messages.
    """

    def __init__(self, format: str, readers: Sequence[Callable[[], Scene]], problems: Problems, names: Sequence[str] | Callable[[int], str] | None = None, labels: Sequence[str] | None = None):
        self.format = format
        self.readers = readers
        self.problems = problems
        self.names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.readers)

    def __getitem__(self, index: int) -> Scene:
        return self.readers[index]()

    @property
    def starts(self) -> Sequence[int]:
        return range(len(self))

    def prepare(self, index: int) -> None:
        pass

    def name(self, index: int) -> str:
        if callable(self.names):
            return self.problems.attempt(self.label(index), partial(self.names, index)) or ''

        if self.names is not None:
            return self.names[index]

        scene = self.problems.attempt(self.label(index), partial(self.__getitem__, index))
        return '' if scene is None else scene.name

    def label(self, index: int) -> str:
        return f'scene {index}' if self.labels is None else self.labels[index]


def synthetic_dataset(num_scenes: int, image_size: int, problems: Problems) -> Scenes:
    """Returns up to 1000 built-in scenes of 12 views each, which are never used for training."""
    return Scenes('built-in synthetic scenes', [partial(synthetic_scene, seed, num_views = 12, image_size = image_size) for seed in range(num_scenes)], problems)


class Subset:
    """Subset of a dataset, by numbers of scenes."""

    def __init__(self, whole: Dataset, indices: Sequence[int]):
        self.whole = whole
        self.indices = indices
        self.format = whole.format
        self.problems = whole.problems

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Scene:
        return self.whole[self.indices[index]]

    @property
    def starts(self) -> Sequence[int]:
        starts = self.whole.starts    # cached, since `Concat` computes it at each access

        if len(starts) == len(self.whole):
            return range(len(self))

        files = [bisect_right(starts, index) for index in self.indices]
        return [position for position, file in enumerate(files) if position == 0 or file != files[position - 1]]

    def prepare(self, index: int) -> None:
        self.whole.prepare(self.indices[index])

    def name(self, index: int) -> str:
        return self.whole.name(self.indices[index])

    def label(self, index: int) -> str:
        return self.whole.label(self.indices[index])


class Concat:
    """Concatenation of several datasets."""

    def __init__(self, datasets: Sequence[Dataset], problems: Problems):
        self.format = ', '.join(dict.fromkeys(dataset.format for dataset in datasets))
        self.problems = problems
        self.datasets = datasets
        self.ends = list(accumulate(map(len, datasets)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Scene:
        dataset, inner = self.place(index)
        return dataset[inner]

    def place(self, index: int) -> tuple[Dataset, int]:
        """Returns the dataset of a scene, and the scene's number in it."""
        index = range(len(self))[index]
        number = bisect_right(self.ends, index)
        return self.datasets[number], index - self.first(number)

    def first(self, number: int) -> int:
        """Returns the number of the first scene of a dataset."""
        return self.ends[number - 1] if number > 0 else 0

    @property
    def starts(self) -> Sequence[int]:
        if all(len(dataset.starts) == len(dataset) for dataset in self.datasets):
            return range(len(self))

        return [self.first(number) + start for number, dataset in enumerate(self.datasets) for start in dataset.starts]

    def prepare(self, index: int) -> None:
        dataset, inner = self.place(index)
        dataset.prepare(inner)

    def name(self, index: int) -> str:
        dataset, inner = self.place(index)
        return dataset.name(inner)

    def label(self, index: int) -> str:
        dataset, inner = self.place(index)
        return dataset.label(inner)


class Prefixed:
    """A dataset whose scenes are called PREFIX/NAME."""

    def __init__(self, dataset: Dataset, prefix: str):
        self.dataset = dataset
        self.prefix = prefix
        self.format = dataset.format
        self.problems = dataset.problems

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Scene:
        scene = self.dataset[index]
        return replace(scene, name = f'{self.prefix}/{scene.name}')

    @property
    def starts(self) -> Sequence[int]:
        return self.dataset.starts

    def prepare(self, index: int) -> None:
        self.dataset.prepare(index)

    def name(self, index: int) -> str:
        name = self.dataset.name(index)
        return f'{self.prefix}/{name}' if name else ''

    def label(self, index: int) -> str:
        return self.dataset.label(index)


class Split(NamedTuple):
    training: Dataset
    held_out: Dataset


def split_scenes(dataset: Dataset, most: int = MOST_HELD_OUT) -> Split:
    """Splits a dataset into training scenes and held-out scenes, which are every eighth scene.

    Args:
        dataset: The dataset.
        most: Maximum number of held-out scenes.

    Raises:
        ValueError: If there are fewer than two scenes.
    """
    if len(dataset) < 2:
        fail('data', 'must have at least two scenes for some of them to be held out', len(dataset), 'Of a single scene, views are held out: `hold_out`.')

    held_out = range(0, len(dataset), EVERY)[:most]
    return Split(Subset(dataset, Complement(len(dataset), held_out)), Subset(dataset, held_out))


def shuffled_order(dataset: Dataset, epoch: int, seed: int, *, lanes: int = LANES) -> Sequence[int]:
    """Returns the numbers of all scenes in an order that depends on seed and epoch only. The cost of an entry does not depend on the number of scenes.

    Args:
        dataset: The dataset.
        epoch: Number of the epoch.
        seed: Seed of the order.
        lanes: Number of files that are read in turns, each to its end. Consecutive scenes come from different files, and few files are open at a time.
    """
    return shuffled(dataset.starts, len(dataset), seed = seed, epoch = epoch, lanes = lanes)
