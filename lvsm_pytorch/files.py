"""Atomic writes, and reads that run no code from files."""

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
    """Writes a file atomically: calls `write` with a temporary path of the same suffix in the same folder, then renames it.

    Args:
        path: File to write.
        write: Function that writes to a path.
        durable: Flush the file to the disk before the rename. Without it, writing is faster, but a power failure may leave an empty file.

    Raises:
        OSError: If the file can't be written. The previous file is unchanged.
    """
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}')

    try:
        temporary.touch()
        rights = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(rights)  # the permissions of any new file: safetensors sets stricter ones

        if durable:
            with open(temporary, 'rb') as file:
                os.fsync(file.fileno())

        os.replace(temporary, path)
    except Exception as error:
        if not isinstance(error, OSError | RuntimeError) and type(error).__name__ != 'SafetensorError':  # torch and safetensors report a full disk as these
            raise

        room = f'{shutil.disk_usage(path.parent).free / 1e9:.1f} GB are free' if path.parent.is_dir() else 'the folder does not exist'
        raise OSError(f'{path}: must be written completely, but got {error} ({room}). Make room or choose another folder. The previous file is unchanged.') from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok = True)


def write_json(path: Path, content: Any) -> None:
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(content, indent = 1) + '\n', encoding = 'utf-8'))


def check_free(paths: Iterable[Path]) -> None:
    """Checks that files of the user are not replaced.

    Raises:
        ValueError: If a path exists.
    """
    there = next((path for path in paths if path.exists()), None)

    if there is not None:
        fail('folder', 'must have no files that would be replaced', there, 'Choose another folder.')


def read_json(path: Path, error: type[ValueError] = ValueError) -> Any:
    """Reads a JSON file, with or without a byte order mark.

    Raises:
        ValueError: For a file that is missing or not JSON, as `error`.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise error(f'{path}: must be a readable JSON file, but got {problem}. Write it again.') from problem

    return parse_json(content, str(path), error)


def parse_json(content: bytes, where: str, error: type[ValueError] = ValueError) -> Any:  # noqa: RET503, since fail never returns
    """The value of JSON in UTF-8, with or without a byte order mark.

    Args:
        where: Name of the file in errors.

    Raises:
        ValueError: For what is not JSON, with line and column, as `error`.
    """
    try:
        return json.loads(content.decode('utf-8-sig'))
    except UnicodeDecodeError as problem:
        before = content[:problem.start]
        got = f'a byte that is not UTF-8: line {before.count(10) + 1} column {len(before) - before.rfind(10)}'
    except RecursionError:
        got = 'lists or objects in each other, too many of them'
    except ValueError as problem:
        got = str(problem) if content.strip() else 'an empty file'

    fail(where, 'must be a readable JSON file', got, 'Correct that place, write the file again, or remove it.', error)


def make_folder(out: Path) -> None:
    """Creates a folder and its parents.

    Raises:
        OSError: If it can't be created.
    """
    try:
        out.mkdir(parents = True, exist_ok = True)
    except OSError as error:
        raise OSError(f'out: must be a folder that can be made, but got {out}: {error}. Choose another.') from error


def remove_partial_files(folder: Path) -> None:
    """Removes temporary files of `write_whole`, and temporary folders, from killed processes."""
    for path in folder.glob(f'.*{PARTIAL}*'):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def read_tensors(path: str | os.PathLike[str], *, argument: str, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Reads tensors and plain values from a file of `torch.save`, without running code from it.

    Args:
        argument: Name of the file in errors.
        mmap: Memory-map the tensors, for files in the format of torch 1.6 and later.

    Raises:
        ValueError: For a file that is missing, broken or has other objects.
    """
    import torch

    if not Path(path).is_file():
        raise ValueError(f'{argument}: must be a file that exists, but got {str(path)!r}. Give the path of a file that torch.save wrote.')

    try:
        return torch.load(path, map_location = map_location, weights_only = True, mmap = mmap and is_zipfile(path))
    except Exception as error:  # any error of a broken or malicious file; torch's own message suggests to load it unsafely
        raise ValueError(f'{argument}: must be a file of tensors and plain values, but got {path}, which is none ({type(error).__name__}). Nothing in it was run.') from error
