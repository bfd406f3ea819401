"""Copies of remote files on the disk, up to so many bytes."""

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
    """By the environment variable LVSM_CACHE, else in the user's folder of caches."""
    named = os.environ.get('LVSM_CACHE')
    return Path(named).expanduser() if named else Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'lvsm-pytorch'


def default_cache_bytes() -> int:
    """By the environment variable LVSM_CACHE_GB, else 50 GB.

    Raises:
        ValueError: For a variable that is no number above 0.
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
    """A folder of files, shared by processes: each is fetched by one of them, and those that were not used for longest make room.

    Args:
        folder: Where they are kept.
        most: Bytes that they may have together.
    """

    def __init__(self, folder: Path, most: int):
        self.folder = folder
        self.most = most

    def get(self, address: str, size: int, fetch: Callable[[Path], None]) -> Path:
        """A copy of a file.

        Args:
            address: Of the file, with its version if it has one.
            size: In bytes.
            fetch: Writes the file, or what of it is missing, to a path.

        Raises:
            ValueError: For a file that is larger than the cache.
            OSError: As `fetch`, and where the folder can't be written.
        """
        from filelock import FileLock  # comes with torch

        path = self.folder / f'{hashlib.sha256(address.encode()).hexdigest()[:32]}{PurePosixPath(address).suffix}'

        if self.is_whole(path, size):
            return path

        if size > self.most:
            fail('LVSM_CACHE_GB', f'must be more than a single file has, {size / 1e9:.3g} GB', f'{self.most / 1e9:.3g}', f'Raise it for {address}.')

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
        """Whether a copy is there; then it has been used just now."""
        with suppress(OSError):
            if path.stat().st_size == size:
                touch(path)
                return True

        return False

    def make_room(self, size: int, partial: Path) -> None:
        """Removes what was not used for longest. Who has one of them mapped keeps it."""
        found: list[tuple[float, int, Path]] = []

        for path in self.folder.iterdir():
            with suppress(OSError):
                if path != partial and path.suffix != '.lock':
                    about = path.stat()
                    found.append((about.st_mtime, about.st_size, path))

        used = sum(each for _, each, _ in found)

        for _, each, path in sorted(found):
            if used + size <= self.most:
                break

            with suppress(OSError):
                path.unlink()

            used -= each


def touch(path: Path) -> None:
    """Notes that a file is used now, more exactly than the clock of file systems goes."""
    now = time.time_ns()
    os.utime(path, ns = (now, now))
