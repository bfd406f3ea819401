"""Files: written whole or not at all, read without running what is in them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from lvsm_pytorch.errors import fail

PARTIAL = '.partial'


def write_whole(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Calls `write` with a temporary path beside `path` (with the same ending), then puts the file in place in one step.

    Args:
        durable: The file is on the disk, and not just on its way there, before it takes the name of the one before. Waiting for the disk takes longer than many small files that can be
            made again are worth; where the power fails, such a file may be left empty.

    Raises:
        OSError: Where it can't be written; what was there before is as it was.
    """
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}')

    try:
        temporary.touch()
        rights = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(rights)  # as any new file has them: safetensors lets nobody else read its own

        if durable:
            with open(temporary, 'rb') as file:
                os.fsync(file.fileno())

        os.replace(temporary, path)
    except Exception as error:
        if not isinstance(error, OSError | RuntimeError) and type(error).__name__ != 'SafetensorError':  # as which torch and safetensors report a full disk
            raise

        room = f'{shutil.disk_usage(path.parent).free / 1e9:.1f} GB are free there' if path.parent.is_dir() else 'the folder is not there'
        raise OSError(f'{path}: must be written whole, but got {error} ({room}). Make room or choose another folder; what was there before is as it was.') from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok = True)


def write_json(path: Path, content: Any) -> None:
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(content, indent = 1) + '\n', encoding = 'utf-8'))


def check_free(paths: Iterable[Path]) -> None:
    """Before files are written that this library may not have written before.

    Raises:
        ValueError: For one that is there, which would be replaced.
    """
    there = next((path for path in paths if path.exists()), None)

    if there is not None:
        fail('folder', 'must have no files that would be replaced', there, 'Choose another folder.')


def read_json(path: Path, error: type[ValueError] = ValueError) -> Any:
    """As it is, with or without a byte order mark.

    Raises:
        ValueError: For a file that is missing or no JSON; `error` is its kind.
    """
    try:
        return json.loads(path.read_text(encoding = 'utf-8-sig'))
    except (OSError, ValueError) as problem:
        raise error(f'{path}: must be a readable JSON file, but got {problem}. Write it anew.') from problem


def make_folder(out: Path) -> None:
    """Makes a folder, with those that it is in.

    Raises:
        OSError: Where it can't be made.
    """
    try:
        out.mkdir(parents = True, exist_ok = True)
    except OSError as error:
        raise OSError(f'out: must be a folder that can be made, but got {out}: {error}. Choose another.') from error


def remove_partial_files(folder: Path) -> None:
    """What `write_whole` left where its process was killed."""
    for path in folder.glob(f'.*{PARTIAL}*'):
        path.unlink()


def read_tensors(path: str | os.PathLike[str], *, argument: str, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """What `torch.save` wrote into a file, as far as it is tensors and plain values.

    Args:
        mmap: Tensors stay in the file until they are used, where the file is of the format that torch writes since 1.6.

    Raises:
        ValueError: That names `argument` for a file that is missing, broken or holds anything else; nothing in it is run.
    """
    import torch

    if not Path(path).is_file():
        raise ValueError(f'{argument}: must be a file that is there, but got {str(path)!r}. Give the path of a file that torch.save wrote.')

    try:
        return torch.load(path, map_location = map_location, weights_only = True, mmap = mmap and is_zipfile(path))
    except Exception as error:  # whatever a broken or malicious file makes the unpickler say; torch's text advises to run it
        raise ValueError(f'{argument}: must be a file of tensors and plain values, but got {path}, which is none ({type(error).__name__}). Nothing in it was run.') from error
