"""Results of slow functions that several processes of a machine need: one computes a result, the others read it from a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from lvsm_pytorch.data.recent import Recent
from lvsm_pytorch.files import read_tensors, write_whole


class SharedResults:
    """Cache of the last results of a function. Processes with the same `folder` compute each result once; without sharing it is None.

    Args:
        function: Function from an integer to tensors by name.
        max_size: Maximum number of results, in memory and in the folder.
    """

    def __init__(self, function: Callable[[int], dict[str, Tensor]], max_size: int):
        self.function = function
        self.max_size = max_size
        self.folder: Path | None = None
        self.recent = Recent(self.find, max_size)

    def __call__(self, number: int) -> dict[str, Tensor]:
        return self.recent(number)

    def find(self, number: int) -> dict[str, Tensor]:
        """Reads the result of a number from the folder, or computes it."""
        if self.folder is None or not self.folder.is_dir():
            return self.function(number)

        from filelock import FileLock  # comes with torch

        path = self.folder / f'{number}.pt'
        result = None

        try:
            with FileLock(self.folder / f'{number}.lock'):  # released also when its process is killed
                with suppress(ValueError):
                    return read_tensors(path, argument = 'folder', mmap = True)

                result = self.function(number)
                write_whole(path, lambda temporary: torch.save(result, temporary), durable = False)

            self.remove_oldest(self.folder)
        except OSError:  # its creator has deleted the folder, or the disk is full
            pass

        return self.function(number) if result is None else result

    def remove_oldest(self, folder: Path) -> None:
        """Removes the oldest files. Processes that have a removed file mapped can still read it."""
        with suppress(OSError):  # another process may have removed it
            for path in sorted(folder.glob('[!.]*.pt'), key = lambda path: path.stat().st_mtime)[:-self.max_size]:
                path.unlink()
                path.with_suffix('.lock').unlink(missing_ok = True)
