"""A run in a program of somebody else: what it changes of the process is put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_accelerate_state() -> Iterator[None]:
    """Accelerate remembers its first settings for as long as Python runs, and takes no others after that. Here there are none yet, and afterwards those from before.

    It offers no public way to do so. A process group that was there before stays.
    """
    import torch.distributed
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states = [kind._shared_state for kind in (AcceleratorState, GradientState, PartialState)]
    before = [dict(state) for state in states]
    had_group = torch.distributed.is_available() and torch.distributed.is_initialized()

    for state in states:
        state.clear()

    try:
        yield
    finally:
        if not had_group and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

        for state, content in zip(states, before, strict = True):
            state.clear()
            state.update(content)


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """The global generators of the CPU and of a GPU are afterwards as they were before."""
    with torch.random.fork_rng(devices = [device] if device.type == 'cuda' else []):
        yield
