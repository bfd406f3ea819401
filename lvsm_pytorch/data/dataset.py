"""Datasets: scenes by number, whole or in part."""

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

# of a dataset, scenes that are held out at most

MOST_HELD_OUT = 64


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

    @property
    def starts(self) -> Sequence[int]:
        """Number of the first scene of each file, ascending from 0: scenes of one file are read faster one after the other. A range where each has its own."""
        ...

    def prepare(self, index: int) -> None:
        """Gets a scene ready in the background, where it is far away."""
        ...

    def name(self, index: int) -> str:
        """Of a scene, whether it can be used or not; its images are not read."""
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
        names: Of the scenes, or a function of a scene's number that reads no more than its name. Left out, the scene is read for it.
        labels: Where each is, for messages.
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

    @property
    def starts(self) -> Sequence[int]:
        starts = self.whole.starts    # of `Concat`, made at each access

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
    """All scenes of several datasets, the first's first."""

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
        """The dataset of a scene, and the scene's number in it."""
        index = range(len(self))[index]
        number = bisect_right(self.ends, index)
        return self.datasets[number], index - self.first(number)

    def first(self, number: int) -> int:
        """Number of the first scene of a dataset."""
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
    """Every eighth scene is held out.

    Args:
        dataset: The scenes.
        most: Maximum number of held-out scenes.

    Raises:
        ValueError: For fewer than two scenes.
    """
    if len(dataset) < 2:
        fail('data', 'must have at least two scenes for some of them to be held out', len(dataset), 'Of a single scene, views are held out: `hold_out`.')

    held_out = range(0, len(dataset), EVERY)[:most]
    return Split(Subset(dataset, Complement(len(dataset), held_out)), Subset(dataset, held_out))


def shuffled_order(dataset: Dataset, epoch: int, seed: int, *, lanes: int = LANES) -> Sequence[int]:
    """Every scene of the dataset once, in an order that seed and epoch alone decide; an entry costs the same however many there are.

    Args:
        dataset: The scenes.
        epoch: Its number.
        seed: Of the order.
        lanes: Files that are read in turns, each to its end: neighbours are of different files, and few are open at a time.
    """
    return shuffled(dataset.starts, len(dataset), seed = seed, epoch = epoch, lanes = lanes)
