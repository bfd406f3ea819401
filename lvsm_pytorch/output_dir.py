"""Output folders of resumable work: settings, and finished parts."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path
from typing import Any

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import make_folder, read_json, remove_partial_files, write_json

SETTINGS = 'settings.json'

# maximum number of characters of a value in a message; hashes are longer

MOST_LETTERS = 40


def beside(out: Path, settings: dict[str, Any]) -> Path:
    """Returns the first of `out`, `out-2`, `out-3`, .. that is new, empty, or has the same settings."""
    folders = (out if number == 1 else out.with_name(f'{out.name}-{number}') for number in count(1))
    return next(folder for folder in folders if is_free(folder) or not differences(folder, settings))


def is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def differences(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Describes the settings of a folder that differ from `settings`."""
    if not (folder / SETTINGS).is_file():
        return ['other files']

    before = read_json(folder / SETTINGS)
    return [f'{name} {short(before.get(name))} instead of {short(value)}' for name, value in settings.items() if before.get(name) != value]


def short(value: object) -> str:
    text = str(value)
    return text if len(text) <= MOST_LETTERS else f'{text[:12]}…'


def prepare_output_dir(out: Path, parts: str | None, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Makes an output folder, with a subfolder for parts if it has a name.

    Args:
        out: The folder.
        parts: Name of the subfolder of finished parts, or None.
        settings: All settings that the parts depend on.
        overwrite: Delete parts with other settings; never other files.

    Raises:
        ValueError: If the folder has parts with other settings, or other files in the subfolder.
    """
    is_ours = (out / SETTINGS).is_file()

    if parts is not None and not is_ours and (out / parts).is_dir() and any(not path.name.startswith('.') for path in (out / parts).iterdir()):
        fail('out', 'must be a new folder, or one with the same settings', f'{out / parts}, with other files', 'Choose another.')

    if overwrite and is_ours:
        if parts is not None:
            shutil.rmtree(out / parts, ignore_errors = True)

        (out / SETTINGS).unlink()

    make_folder(out if parts is None else out / parts)

    for folder in (out,) if parts is None else (out, out / parts):
        remove_partial_files(folder)

    if (out / SETTINGS).exists() and (differ := differences(out, settings)):
        fail('out', 'must be a new folder, or one with the same settings', f'{out}, with {"; ".join(differ)}', 'Choose another, or delete its contents by --overwrite.')

    write_json(out / SETTINGS, settings)
