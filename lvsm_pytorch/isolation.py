"""Context managers that restore the global state that a run changes, for runs inside other programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_accelerate_state() -> Iterator[None]:
    """Clears accelerate's shared state for the context, and restores it afterwards. Accelerate keeps its first settings for the life of the process and has no public way to reset them.

    An existing process group stays.
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
    """Restores the global random generators of the CPU and of a GPU afterwards."""
    with torch.random.fork_rng(devices = [device] if device.type == 'cuda' else []):
        yield
