"""How much memory steps need."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """As a context: the most bytes of tensors that were made in it and lived at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.alive: Any = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))

        for storage in [leaf.untyped_storage() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]:
            if storage not in self.alive:
                self.alive.add(storage)
                self.change(storage.nbytes())
                weakref.finalize(storage, self.change, -storage.nbytes())

        return out

    def change(self, by: int) -> None:
        self.now += by
        self.peak = max(self.peak, self.now)


class ProcessMemory:
    """The most memory that a process of one implementation has needed beside what was there before: model, data, and the library itself."""

    def __init__(self, device: torch.device):
        self.device = device

        if device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            give_back_freed_memory()
            self.before = self.of_process('VmRSS')

    def peak(self) -> int:
        peak = torch.cuda.max_memory_allocated() if self.device.type == 'cuda' else self.of_process('VmHWM')
        return peak - self.before

    def of_process(self, name: str) -> int:
        try:
            lines = Path('/proc/self/status').read_text(encoding = 'utf-8').splitlines()
        except OSError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)

        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def give_back_freed_memory() -> None:
    """What glibc has kept of the preparations would hide as much of what steps need."""
    gc.collect()

    with suppress(OSError, AttributeError):
        ctypes.CDLL('libc.so.6').malloc_trim(0)
