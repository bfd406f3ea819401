"""What takes long to compute and several workers need: one computes it, the others read it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from lvsm_pytorch.data.recent import Recent
from lvsm_pytorch.files import read_tensors, write_whole


class SharedResults:
    """A function of a number, whose last results are kept. Processes that have the same `folder` compute each of them once; it is None for none.

    Args:
        function: Of an integer; gives tensors by name.
        most: Results that are kept, in memory and in the folder.
    """

    def __init__(self, function: Callable[[int], dict[str, Tensor]], most: int):
        self.function = function
        self.most = most
        self.folder: Path | None = None
        self.recent = Recent(self.find, most)

    def __call__(self, number: int) -> dict[str, Tensor]:
        return self.recent(number)

    def find(self, number: int) -> dict[str, Tensor]:
        if self.folder is None:
            return self.function(number)

        from filelock import FileLock  # comes with torch

        path = self.folder / f'{number}.pt'

        with FileLock(self.folder / f'{number}.lock'):  # of a process that ends, however it does, nobody waits for the lock
            with suppress(ValueError):
                return read_tensors(path, argument = 'folder', mmap = True)

            result = self.function(number)
            write_whole(path, lambda temporary: torch.save(result, temporary), durable = False)

        self.remove_oldest(self.folder)
        return result

    def remove_oldest(self, folder: Path) -> None:
        """Who has one of them mapped keeps it."""
        with suppress(OSError):  # of several processes, one removes it
            for path in sorted(folder.glob('[!.]*.pt'), key = lambda path: path.stat().st_mtime)[:-self.most]:
                path.unlink()
                path.with_suffix('.lock').unlink(missing_ok = True)
