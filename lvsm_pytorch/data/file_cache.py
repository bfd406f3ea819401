"""Disk cache of remote files, with a maximum size."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import PARTIAL, make_folder


def default_cache() -> Path:
    """Returns the folder of the cache: the environment variable LVSM_CACHE, or by default a folder in the user's cache directory."""
    named = os.environ.get('LVSM_CACHE')
    return Path(named).expanduser() if named else Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'lvsm-pytorch'


def default_cache_bytes() -> int:
    """Returns the maximum size of the cache: the environment variable LVSM_CACHE_GB, or by default 50 GB.

    Raises:
        ValueError: If the variable is not a number above 0.
    """
    text = os.environ.get('LVSM_CACHE_GB') or '50'

    try:
        size = float(text)
    except ValueError:
        size = 0.

    if not 0 < size < float('inf'):
        fail('LVSM_CACHE_GB', 'must be a number of gigabytes above 0', repr(text), 'For example 200.')

    return int(size * 1e9)


class FileCache:
    """Cache of files in a folder that processes share. Each file is downloaded by one process, and the least recently used files are removed.

    Args:
        folder: Folder of the cache.
        max_bytes: Maximum size of all files together.
    """

    def __init__(self, folder: Path, max_bytes: int):
        self.folder = folder
        self.max_bytes = max_bytes

    def get(self, address: str, size: int, fetch: Callable[[Path], None]) -> Path:
        """Returns the path of the local copy of a file, which is downloaded if it is not in the cache.

        Args:
            address: Address of the file, with its version if it has one.
            size: Size of the file in bytes.
            fetch: Function that writes the file, or its missing part, to a path.

        Raises:
            ValueError: If the file is larger than the cache.
            OSError: As `fetch`, and if the folder can't be written.
        """
        from filelock import FileLock  # comes with torch

        path = self.folder / f'{hashlib.sha256(address.encode()).hexdigest()[:32]}{PurePosixPath(address).suffix}'

        if self.is_whole(path, size):
            return path

        if size > self.max_bytes:
            fail('LVSM_CACHE_GB', f'must be more than a single file has, {size / 1e9:.3g} GB', f'{self.max_bytes / 1e9:.3g}', f'Raise it for {address}.')

        make_folder(self.folder)
        partial = path.with_name(f'.{path.name}{PARTIAL}')

        with FileLock(self.folder / f'.{path.name}.lock'):
            if not self.is_whole(path, size):
                self.make_room(size, partial)
                fetch(partial)
                touch(partial)
                os.replace(partial, path)

        return path

    def is_whole(self, path: Path, size: int) -> bool:
        """Returns whether a complete copy exists, and marks it as used."""
        with suppress(OSError):
            if path.stat().st_size == size:
                touch(path)
                return True

        return False

    def make_room(self, size: int, partial: Path) -> None:
        """Removes the least recently used files. Processes that have a removed file mapped can still read it."""
        found: list[tuple[float, int, Path]] = []

        for path in self.folder.iterdir():
            with suppress(OSError):
                if path != partial and path.suffix != '.lock':
                    about = path.stat()
                    found.append((about.st_mtime, about.st_size, path))

        used = sum(each for _, each, _ in found)

        for _, each, path in sorted(found):
            if used + size <= self.max_bytes:
                break

            with suppress(OSError):
                path.unlink()

            used -= each


def touch(path: Path) -> None:
    """Sets the modification time of a file to now, with a finer resolution than the clock of file systems."""
    now = time.time_ns()
    os.utime(path, ns = (now, now))
