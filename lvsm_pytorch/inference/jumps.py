"""How much a film jumps where its input photos change."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from torch import Tensor

# steps on both sides that one is compared with

REACH = 8


class Jump(NamedTuple):
    """A step between two frames whose input photos differ.

    Attributes:
        frame: Number of the second.
        difference: Mean absolute difference of the two frames.
        around: Its median over the steps around, where photos do not change.
    """
    frame: int
    difference: float
    around: float

    @property
    def ratio(self) -> float:
        """1 where nothing jumps."""
        return self.difference / max(self.around, 1e-9)


def find_jumps(frames: Tensor, inputs: Sequence[Hashable]) -> list[Jump]:
    """All steps of a film at which the input photos change.

    Args:
        frames: (n c h w) in [0, 1], one after the other.
        inputs: Of each frame, what its photos are, by any name.
    """
    steps = frames.diff(dim = 0).abs().flatten(1).mean(dim = 1)
    switches = [number for number in range(len(steps)) if inputs[number] != inputs[number + 1]]
    found = []

    for switch in switches:
        around = [number for number in range(max(switch - REACH, 0), min(switch + REACH + 1, len(steps))) if number not in switches]

        if around:
            found.append(Jump(switch + 1, float(steps[switch]), float(steps[around].median())))

    return found
