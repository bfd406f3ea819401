"""Folders of long work in parts, which resumes after an interruption: its settings, and the parts that are there."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path
from typing import Any

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import make_folder, read_json, remove_partial_files, write_json

SETTINGS = 'settings.json'

# letters of a value in a message: hashes are longer, and nobody reads them

MOST_LETTERS = 40


def beside(out: Path, settings: dict[str, Any]) -> Path:
    """The folder `out`, or the next one beside it (`out-2`, `out-3`, ..) that is new, empty, or of the same work."""
    folders = (out if number == 1 else out.with_name(f'{out.name}-{number}') for number in count(1))
    return next(folder for folder in folders if is_free(folder) or not differences(folder, settings))


def is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def differences(folder: Path, settings: dict[str, Any]) -> list[str]:
    """What is otherwise in the work of a folder, in words."""
    if not (folder / SETTINGS).is_file():
        return ['files of something else']

    before = read_json(folder / SETTINGS)
    return [f'{name} {short(before.get(name))} instead of {short(value)}' for name, value in settings.items() if before.get(name) != value]


def short(value: object) -> str:
    text = str(value)
    return text if len(text) <= MOST_LETTERS else f'{text[:12]}…'


def prepare_output_dir(out: Path, parts: str | None, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Makes the folder, and in it one of the parts, if there are such.

    Args:
        out: The folder.
        parts: Name of the folder of its parts.
        settings: All that the parts depend on.
        overwrite: Throw away other work that is in it; never files of something else.

    Raises:
        ValueError: Where other work is in it, or files of something else that have the place of the parts.
    """
    is_ours = (out / SETTINGS).is_file()

    if parts is not None and not is_ours and (out / parts).is_dir() and any(not path.name.startswith('.') for path in (out / parts).iterdir()):
        fail('out', 'must be a new folder, or one of the same work', f'{out / parts}, with files of something else', 'Choose another.')

    if overwrite and is_ours:
        if parts is not None:
            shutil.rmtree(out / parts, ignore_errors = True)

        (out / SETTINGS).unlink()

    make_folder(out if parts is None else out / parts)

    for folder in (out,) if parts is None else (out, out / parts):
        remove_partial_files(folder)

    if (out / SETTINGS).exists() and (differ := differences(out, settings)):
        fail('out', 'must be a new folder, or one of the same work', f'{out}, with {"; ".join(differ)}', 'Choose another, or throw it away by --overwrite.')

    write_json(out / SETTINGS, settings)
