"""Evaluation index of pixelSplat, the usual protocol on RealEstate10K, which lists the input views and target views of each scene.

It is a JSON object `{scene: {"context": [..], "target": [..]} or null}`. Views are numbered in the order of the scene's file. Scenes with null
are not evaluated, for example because they are too short.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator

from lvsm_pytorch.data.dataset import Dataset
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.data.scene import Scene, cameras_of, hold_out
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import write_json
from lvsm_pytorch.geometry.view_selection import camera_distance, evenly
from lvsm_pytorch.seeds import seed_of


class Entry(NamedTuple):
    """Numbers of the input views (context) and of the target views of a scene."""
    context: tuple[int, ...]
    target: tuple[int, ...]


Index = dict[str, Entry | None]


def read_index(path: Path) -> Index:
    """Reads an evaluation index.

    Raises:
        ValueError: For an invalid index, with the scene at fault.
    """
    try:
        content = json.loads(path.read_text(encoding = 'utf-8-sig'))
    except (OSError, ValueError) as error:
        raise ValueError(f'index: must be a readable JSON file, but got {path}: {error}. lvsm make-index writes one.') from error

    if not isinstance(content, dict) or not content:
        fail('index', 'must be a JSON object of scenes', f'{path}: {type(content).__name__} of {len(content) if hasattr(content, "__len__") else 0}', 'lvsm make-index writes one.')

    return {scene: None if entry is None else entry_of(f'{path}, {scene}', entry) for scene, entry in content.items()}


def entry_of(where: str, entry: Any) -> Entry:
    def numbers(name: str) -> tuple[int, ...]:
        found = entry.get(name) if isinstance(entry, dict) else None

        if not isinstance(found, list) or not found or not all(type(number) is int and number >= 0 for number in found):
            fail(where, f'must have numbers of views as {name}', found, 'An entry is {"context": [..], "target": [..]}, or null.')

        return tuple(found)

    return Entry(numbers('context'), numbers('target'))


def write_index(index: Index, path: Path) -> None:
    """Writes an evaluation index atomically.

    Raises:
        ValueError: If the file exists and is not an index.
    """
    if path.exists():
        try:
            read_index(path)
        except ValueError as error:
            raise ValueError(f'out: must be a new file, or an evaluation index, but got {path}, which is another file. Choose another.') from error

    content = {scene: None if entry is None else dict(context = list(entry.context), target = list(entry.target)) for scene, entry in index.items()}
    path.parent.mkdir(parents = True, exist_ok = True)
    write_json(path, content)


def make_index(dataset: Dataset, *, num_inputs: int = 2, num_targets: int = 3, frame_distances: tuple[int, int] = (25, 192), seed: int = 0) -> Index:
    """Generates an index with an entry for each scene of the dataset; null for scenes with too few views or that can't be read.

    Videos: a clip whose length in frames is drawn from `frame_distances` (minimum, maximum), with evenly spaced inputs and random targets
    between them. Photo sets: neighbouring held-out views (`hold_out`), with the nearest training views as inputs. The entry of a scene
    depends only on its name and views.
    """
    index: Index = {}

    for number in range(len(dataset)):
        scene = dataset.problems.attempt(dataset.label(number), lambda number = number: dataset[number])

        if scene is None:
            index[dataset.name(number)] = None
            continue

        if scene.name in index:
            fail('data', 'must have scenes with unique names', f'{scene.name} twice', 'They are the keys of the index.')

        generator = Generator().manual_seed(seed_of(scene.name, seed))
        index[scene.name] = entry_for(scene, num_inputs, num_targets, frame_distances, generator)

    return index


def entry_for(scene: Scene, num_inputs: int, num_targets: int, frame_distances: tuple[int, int], generator: Generator) -> Entry | None:
    numbers = list(scene.numbered())
    chosen = partial(of_video, len(numbers), frame_distances) if scene.is_video else partial(of_photos, scene)
    positions = chosen(num_inputs, num_targets, generator)
    return None if positions is None else Entry(*(tuple(numbers[position] for position in each) for each in positions))


def of_video(total: int, frame_distances: tuple[int, int], num_inputs: int, num_targets: int, generator: Generator) -> tuple[list[int], list[int]] | None:
    least, most = max(frame_distances[0], num_inputs + num_targets - 1), min(frame_distances[1], total - 1)

    if least > most:
        return None

    length = int(torch.randint(least, most + 1, (), generator = generator))
    first = int(torch.randint(0, total - length, (), generator = generator))
    inputs = [first + step for step in evenly(length, num_inputs)]
    between = [number for number in range(first, first + length + 1) if number not in inputs]
    return inputs, sorted(between[place] for place in torch.randperm(len(between), generator = generator)[:num_targets].tolist())


def of_photos(scene: Scene, num_inputs: int, num_targets: int, generator: Generator) -> tuple[list[int], list[int]] | None:
    try:
        training, held_out = ({view.name for view in part.views} for part in hold_out(scene))
    except ValueError:
        return None

    if len(training) < num_inputs:
        return None

    distance = camera_distance(cameras_of(scene.views).camera_to_world)
    training_positions, held_out_positions = ([position for position, view in enumerate(scene.views) if view.name in names] for names in (training, held_out))
    about = held_out_positions[int(torch.randint(len(held_out_positions), (), generator = generator))]
    targets = sorted(sorted(held_out_positions, key = lambda position: float(distance[about, position]))[:num_targets])
    inputs = sorted(sorted(training_positions, key = lambda position: float(distance[targets, position].mean()))[:num_inputs])
    return inputs, targets


def views_of(scene: Scene, entry: Entry) -> Scene:
    """Returns a scene of the views of an entry, inputs first.

    Raises:
        BadView: If the scene does not have one of the views.
    """
    numbered = scene.numbered()
    missing = [number for number in (*entry.context, *entry.target) if number not in numbered]

    if missing:
        fail(scene.name, 'must have the views of the index', f'none of number {missing} among {len(numbered)}', 'Is the index of this dataset?', BadView)

    return Scene(scene.name, tuple(numbered[number] for number in (*entry.context, *entry.target)), scene.is_video)
