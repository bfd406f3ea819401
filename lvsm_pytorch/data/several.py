"""Concatenation of several datasets, with unique names of their scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lvsm_pytorch.data.dataset import Concat, Dataset, Prefixed
from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.storage import remote_url
from lvsm_pytorch.errors import fail

# local path, or address of remote data

Location = str | Path


def joined(datasets: Mapping[Location, Dataset], problems: Problems) -> Concat:
    """Concatenates datasets, given by location. The name of a scene begins with that of its dataset. Empty datasets are left out.

    Raises:
        ValueError: If all are empty.
    """
    prefix = prefixes(list(datasets))
    found = [Prefixed(dataset, prefix[where]) for where, dataset in datasets.items() if len(dataset) > 0]

    if not found:
        fail('data', 'must have at least one scene', 'none', f'They are {", ".join(map(place, datasets))}.')

    return Concat(found, problems)


def joined_by_name(datasets: Mapping[Any, Dataset], problems: Problems) -> Dataset:
    """Concatenates datasets as `joined` does, but scenes keep their own names, which evaluation indices use, unless a name occurs in two datasets. All names are read."""
    if len(datasets) == 1:
        return next(iter(datasets.values()))

    whole = Concat(list(datasets.values()), problems)
    names = Counter(name for number in range(len(whole)) if (name := whole.name(number)))
    return whole if max(names.values(), default = 1) == 1 else joined(datasets, problems)


def separate(paths: Sequence[Location]) -> list[Location]:
    """Checks that no scene is in two of the locations, since it could be used for training and held out. Returns the locations.

    Raises:
        ValueError: If there are none, one occurs twice, or a folder is inside another.
    """
    if not paths:
        fail('data', 'must be at least one folder or address', 'none', 'Name one.')

    places = {place(path).rstrip('/') + '/': path for path in paths}

    if len(places) < len(paths):
        twice = next(path for path in paths if [place(each).rstrip('/') for each in paths].count(place(path).rstrip('/')) > 1)
        fail('data', 'must be folders and addresses that differ', f'{twice} twice', 'Name each once.')

    inner = next(((path, outer) for each, path in places.items() for other, outer in places.items() if each != other and each.startswith(other)), None)

    if inner is not None:
        fail('data', 'must be folders that are not in each other', f'{inner[0]} in {inner[1]}', 'Name the outer one, which has all scenes, or the inner ones.')

    return list(paths)


def prefixes(paths: Sequence[Location]) -> dict[Location, str]:
    """Returns unique names of datasets: the last parts of their paths or addresses, as many as are needed."""
    parts = {path: place(path).rstrip('/').split('/') for path in paths}

    def end(path: Location, count: int) -> str:
        return '/'.join(part for part in parts[path][-count:] if part)

    def others(path: Location, count: int) -> bool:
        return any(end(each, count) == end(path, count) for each in paths if each != path)

    return {path: end(path, next((count for count in range(1, len(parts[path])) if not others(path, count)), len(parts[path]))) for path in paths}


def place(path: Location) -> str:
    """Normalises a location: an address, or an absolute path with forward slashes."""
    return remote_url(path) or Path(path).expanduser().resolve().as_posix()
