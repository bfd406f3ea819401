"""The output folder of `lvsm pose`: its contents, its settings, and its removal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from lvsm_pytorch.data.photo_files import posed_folder
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import make_folder, read_json, remove_partial_files, write_json
from lvsm_pytorch.output_dir import SETTINGS

# file of the result, written last; folder of the intermediate stages; and in it undistorted images and model before they are moved

RESULT, WORK, UNDISTORTED = 'pose.json', 'work', 'undistorted'

ADVICE = (
    'Take photos that overlap: each part of the scene in three or more of them, with a step aside between two (not by turning on the spot), '
    'sharp, of things that have texture and do not move; of a video, try more of its --frames.'
)


class Posed(NamedTuple):
    """Result of `find_poses`.

    Attributes:
        out: The folder.
        placed: Registered photos, by name in `out/images`.
        unplaced: Photos that could not be registered.
        skipped: Unreadable files, with reasons.
        num_points: Number of 3D points of the model.
        error: Mean reprojection error in pixels.
        focals: Focal lengths of the cameras in pixels.
    """
    out: Path
    placed: dict[str, str]
    unplaced: list[str]
    skipped: dict[str, str]
    num_points: int
    error: float
    focals: list[float]

    def report(self) -> str:
        """Summary as text."""
        total = len(self.placed) + len(self.unplaced)
        focals = f'{min(self.focals):.4g}' + (f' to {max(self.focals):.4g}' if len(self.focals) > 1 else '')
        lines = [
            f'{self.out}: {len(self.placed)} of {total} photos placed',
            f'  model              {self.num_points} points, mean reprojection error {self.error:.2f} pixels',
            f'  cameras            {len(self.focals)}, focal length {focals} pixels',
        ]

        if self.unplaced:
            lines.append(f'  not placed         {", ".join(self.unplaced)}')

        lines.extend(f'  skipped            {name}: {why}' for name, why in self.skipped.items())

        if len(self.placed) < total / 2:
            lines.append(f'  advice             {ADVICE}')

        return '\n'.join(lines)


def read_result(out: Path) -> Posed:
    content = read_json(out / RESULT)
    return Posed(out, **{name: content[name] for name in Posed._fields if name != 'out'})


def check_place(photos: Path, out: Path) -> None:
    if photos.is_dir() and out.resolve().is_relative_to(photos.resolve()):
        fail('out', 'must be outside the folder of photos', f'{out} in {photos}', f'For example {posed_folder(photos)}.')


def claim(photos: Path, out: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Creates the folders and writes the settings.

    Raises:
        ValueError: If the folder has other files, or a result of other photos or options.
    """
    known = settings_in(out)

    if known is None and any(out.iterdir()):
        fail('out', 'must be a new or empty folder, or one that lvsm pose wrote', f'{out} with other files', 'Choose another.')

    differ = [] if known is None else [f'{name} {known.get(name)} instead of {value}' for name, value in settings.items() if known.get(name) != value]

    if differ and not overwrite:
        again = f'lvsm pose --data {quote(str(photos))} --out {quote(str(out))} --overwrite'
        fail('out', 'must be a new folder, or one of the same photos and options', f'{out}, with {"; ".join(differ)}', f'Choose another, or start again: {again}')

    if known is not None and overwrite:
        remove_written(out)

    make_folder(out / WORK / 'photos')

    for folder in (out, out / WORK, out / WORK / 'photos'):
        remove_partial_files(folder)

    write_json(out / WORK / SETTINGS, settings)


def settings_in(out: Path) -> dict[str, Any] | None:
    """Reads the settings in an output folder of `find_poses`; returns None for other folders."""
    if (out / RESULT).is_file():
        return read_json(out / RESULT).get('settings', {})

    return read_json(out / WORK / SETTINGS) if (out / WORK / SETTINGS).is_file() else None


def remove_written(out: Path) -> None:
    """Removes the output of `find_poses`, and nothing else.

    Raises:
        ValueError: If there are other images.
    """
    results = [read_json(path) for path in (out / RESULT, out / WORK / RESULT) if path.is_file()]
    names = {name for result in results for name in result['placed']}
    foreign = [path for path in (out / 'images').glob('*') if path.name not in names]

    if foreign:
        fail('out', 'must have no photos beside those that lvsm pose wrote', f'{foreign[0]}', 'Move them, or choose another folder.')

    (out / RESULT).unlink(missing_ok = True)

    for name in names:
        (out / 'images' / name).unlink(missing_ok = True)

    for path in (out / 'sparse' / '0').glob('*.bin'):
        path.unlink()

    for folder in (out / 'images', out / 'sparse' / '0', out / 'sparse'):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    shutil.rmtree(out / WORK, ignore_errors = True)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Locks a folder, so that other processes wait."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return

    descriptor = os.open(folder, os.O_RDONLY)

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
