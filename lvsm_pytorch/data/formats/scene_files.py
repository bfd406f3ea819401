"""Base class of datasets that store many scenes per file, in a local or remote folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from lvsm_pytorch.data.problems import BadView, Noted, Problems
from lvsm_pytorch.data.recent import Recent
from lvsm_pytorch.data.scene import Scene
from lvsm_pytorch.data.storage import Folder, Unreachable

INDEX = 'index.json'


class SceneFiles(ABC):
    """Base class of datasets of files with several scenes each, in the order of the files. An unreadable file is skipped and recorded once.

    Args:
        folder: Folder of the files.
        counts: Number of scenes of each file, by its name.
        problems: Record of unusable files, scenes and views.
    """

    format: str
    KEPT_OPEN = 16

    def __init__(self, folder: Folder, counts: dict[str, int], problems: Problems):
        self.folder = folder
        self.problems = problems
        self.files = list(counts)
        self.ends = list(accumulate(counts.values()))
        self.starts = [end - count for end, count in zip(self.ends, counts.values(), strict = True)]
        self.bad: set[str] = set()
        self.open = Recent(self.open_file, self.KEPT_OPEN)

    @staticmethod
    @abstractmethod
    def read_file(path: Path) -> Any:
        """Opens a file, and returns its content for `read_scene`.

        Raises:
            BadView: If the file has another format.
        """

    @abstractmethod
    def read_scene(self, where: str, content: Any, position: int) -> Scene:
        """Reads a scene of a file.

        Raises:
            BadView: If it is missing or unusable.
        """

    @abstractmethod
    def read_name(self, content: Any, position: int) -> str:
        """Reads the name of a scene of a file; '' if it has none."""

    def __len__(self) -> int:
        return self.ends[-1]

    def place(self, index: int) -> tuple[str, int]:
        """Returns the file of a scene, and the scene's number in it."""
        index = range(len(self))[index]
        file = bisect_right(self.ends, index)
        return self.files[file], index - self.starts[file]

    def label(self, index: int) -> str:
        name, position = self.place(index)
        return f'{self.folder.label(name)}, scene {position}'

    def name(self, index: int) -> str:
        name, position = self.place(index)
        return self.problems.attempt(self.label(index), lambda: self.read_name(self.open(name), position)) or ''

    def __getitem__(self, index: int) -> Scene:
        """Reads a scene.

        Raises:
            BadView: If it can't be used.
            Unreachable: If several consecutive remote files can't be read.
        """
        name, position = self.place(index)
        return self.read_scene(self.label(index), self.open(name), position)

    def prepare(self, index: int) -> None:
        """Prefetches the file of a scene in the background, if it is remote."""
        self.folder.prepare(self.place(index)[0])

    def open_file(self, name: str) -> Any:
        if name not in self.bad:
            content = self.problems.attempt(self.folder.label(name), partial(self.fetched, name))

            if content is not None:
                return content

            self.bad.add(name)

        raise Noted(self.folder.label(name))

    def fetched(self, name: str) -> Any:
        try:
            return self.read_file(self.folder.local(name))
        except Unreachable:
            raise
        except OSError as error:
            raise BadView(str(error)) from error
