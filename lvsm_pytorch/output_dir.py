"""Folders of long work that is done in parts, and goes on where it was cut: what it is, and the parts that are there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import make_folder, read_json, remove_partial_files, write_json

SETTINGS = 'settings.json'


def prepare_output_dir(out: Path, parts: str, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Makes the folder, and in it one of the parts. settings: all that the parts depend on.

    Errors: ValueError where other work is in it.
    """
    if overwrite:
        shutil.rmtree(out / parts, ignore_errors = True)
        (out / SETTINGS).unlink(missing_ok = True)

    make_folder(out / parts)

    for folder in (out, out / parts):
        remove_partial_files(folder)

    if (out / SETTINGS).exists():
        before = read_json(out / SETTINGS)
        differ = [f'{name} {before.get(name)} instead of {value}' for name, value in settings.items() if before.get(name) != value]

        if differ:
            fail('out', 'must be a new folder, or one of the same work', f'{out}, with {"; ".join(differ)}', 'Choose another, or throw it away by --overwrite.')

    write_json(out / SETTINGS, settings)
