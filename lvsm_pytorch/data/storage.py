"""Folders of files, local or remote at any address that fsspec reads: hf://, s3://, gs://, https://, ..."""

from __future__ import annotations

import os
import re
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from lvsm_pytorch.data.download import Patience, download, patiently
from lvsm_pytorch.data.file_cache import FileCache, default_cache, default_cache_bytes
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.files import parse_json

# number of consecutive failed files after which the server counts as unreachable

MOST_FAILED = 8


class Unreachable(ConnectionError):
    """A server of which several consecutive files failed. Retrying each of its files would take days."""


class Folder(ABC):
    """Base class of folders, whose files are accessed by name."""

    @abstractmethod
    def read_json(self, name: str) -> Any:
        """Reads a JSON file; returns None if it does not exist.

        Raises:
            BadView: If it is not valid JSON.
            OSError: If it can't be read.
        """

    @abstractmethod
    def names(self, ending: str) -> list[str]:
        """Returns the sorted names of the files with an ending."""

    @abstractmethod
    def local(self, name: str) -> Path:
        """Returns the local path of a file, which is downloaded if necessary.

        Raises:
            OSError: If it can't be read.
        """

    @abstractmethod
    def label(self, name: str) -> str:
        """Returns the location of a file, for messages."""

    @abstractmethod
    def prepare(self, name: str) -> None:
        """Prefetches a remote file in the background."""


class LocalFolder(Folder):
    def __init__(self, path: Path):
        self.path = path

    def read_json(self, name: str) -> Any:
        path = self.path / name
        return parse_json(path.read_bytes(), str(path), BadView) if path.is_file() else None

    def names(self, ending: str) -> list[str]:
        return sorted(name for name in os.listdir(self.path) if name.endswith(ending))

    def local(self, name: str) -> Path:
        return self.path / name

    def label(self, name: str) -> str:
        return str(self.path / name)

    def prepare(self, name: str) -> None:
        pass


class RemoteFolder(Folder):
    """A remote folder, read by fsspec, whose files are downloaded to a cache.

    Args:
        url: Address for fsspec. Credentials and servers come from its configuration and from the environment.
        cache: Cache of files, by default that of the environment.
        patience: Settings of retries.
    """

    def __init__(self, url: str, cache: FileCache | None = None, patience: Patience = Patience()):  # noqa: B008, which is immutable
        self.url = url.rstrip('/')
        self.cache = FileCache(default_cache(), default_cache_bytes()) if cache is None else cache
        self.patience = patience
        self.failed: set[str] = set()  # files that failed since the last successful one

        # each process has its own, since connections and threads can't be passed to others: file system with the path of the folder; lock; and prefetched files

        self.opened: dict[int, tuple[Any, str]] = {}
        self.ahead: dict[int, tuple[threading.Lock, set[str]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | dict(opened = {}, ahead = {})

    @property
    def system(self) -> tuple[Any, str]:
        """Returns the file system of fsspec, and the path of the folder in it."""
        process = os.getpid()

        if process not in self.opened:
            try:
                from fsspec.core import url_to_fs

                self.opened[process] = url_to_fs(self.url)
            except ImportError as error:
                raise ImportError(f'remote data need more than is installed ({error}): pip install "lvsm-pytorch[remote]"') from error
            except ValueError as error:
                raise ValueError(f'data: must be an address that fsspec knows, but got {self.url}: {error}. For example hf://datasets/OWNER/NAME, s3://BUCKET/FOLDER or https://HOST/FOLDER.') from error

        return self.opened[process]

    def read_json(self, name: str) -> Any:
        system, folder = self.system
        path = f'{folder.rstrip("/")}/{name}'

        def content() -> bytes | None:
            try:
                return system.cat_file(path)
            except FileNotFoundError:
                return None

        found = patiently(content, self.label(name), self.patience)
        return None if found is None else parse_json(found, self.label(name), BadView)

    def names(self, ending: str) -> list[str]:
        system, folder = self.system
        paths = patiently(lambda: system.ls(folder, detail = False), self.url, self.patience)
        return sorted(name for path in paths if (name := path.rstrip('/').rsplit('/', 1)[-1]).endswith(ending))

    def local(self, name: str) -> Path:
        try:
            path = self.fetch(name)
        except OSError as error:
            self.failed.add(name)

            if len(self.failed) >= MOST_FAILED:
                raise Unreachable(f'{self.url}: must be reachable, but {len(self.failed)} files one after the other were not: {error}') from error

            raise

        self.failed.clear()
        return path

    def fetch(self, name: str) -> Path:
        system, folder = self.system
        path, label = f'{folder.rstrip("/")}/{name}', self.label(name)
        size = patiently(lambda: system.size(path), label, self.patience)

        if size is None:
            raise OSError(f'{label}: must have a size that its server reports. Use another server, or download the data.')

        return self.cache.get(label, size, lambda to: download(lambda start, end: system.cat_file(path, start = start, end = end), size, to, label, self.patience))

    def label(self, name: str) -> str:
        return f'{self.url}/{name}'

    def prepare(self, name: str) -> None:
        """Prefetches files one at a time. A file that fails is tried again when it is needed."""
        lock, begun = self.ahead.setdefault(os.getpid(), (threading.Lock(), set()))

        def fetch() -> None:
            with lock, suppress(Exception):
                self.fetch(name)

        if name not in begun:
            begun.add(name)
            threading.Thread(target = fetch, daemon = True).start()


def remote_url(location: object) -> str | None:
    """Returns the address of remote data, or None for a local path. pathlib turns s3://bucket into s3:/bucket, which is undone."""
    found = re.fullmatch(r'([a-z][a-z0-9+]+):/{1,2}([^/].*)', str(location).replace('\\', '/'), re.DOTALL)
    return None if found is None or Path(str(location)).exists() else f'{found[1]}://{found[2]}'
