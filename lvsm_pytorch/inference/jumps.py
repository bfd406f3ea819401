"""Temporal jumps of a rendered video at frames where the input photos change."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from torch import Tensor

# number of steps before and after a change of inputs that it is compared with

REACH = 8


class Jump(NamedTuple):
    """A step between two consecutive frames whose input photos differ.

    Attributes:
        frame: Number of the second frame.
        difference: Mean absolute difference of the two frames.
        around: Median of this difference over the surrounding steps whose input photos stay the same.
    """
    frame: int
    difference: float
    around: float

    @property
    def ratio(self) -> float:
        """Difference relative to the surrounding steps; 1 means that there is no jump."""
        return self.difference / max(self.around, 1e-9)


def find_jumps(frames: Tensor, inputs: Sequence[Hashable]) -> list[Jump]:
    """Finds all steps of a video at which the input photos change.

    Args:
        frames: (n c h w) in [0, 1], in order.
        inputs: One key for each frame, which identifies its input photos.
    """
    steps = frames.diff(dim = 0).abs().flatten(1).mean(dim = 1)
    switches = [number for number in range(len(steps)) if inputs[number] != inputs[number + 1]]
    found = []

    for switch in switches:
        around = [number for number in range(max(switch - REACH, 0), min(switch + REACH + 1, len(steps))) if number not in switches]

        if around:
            found.append(Jump(switch + 1, float(steps[switch]), float(steps[around].median())))

    return found
