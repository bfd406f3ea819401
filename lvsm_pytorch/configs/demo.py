"""Options of `lvsm demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lvsm_pytorch.configs.common import Expanded
from lvsm_pytorch.errors import fail


@dataclass(frozen = True)
class DemoConfig(Expanded):
    """Render scenes outside of training with a packaged model."""

    out: Path = Path('lvsm-demo')
    """Folder for orbit.gif and comparison.png."""
    scenes: tuple[int, ...] = (0, 1, 2)
    """Seeds of the built-in scenes of the orbit. Training used seeds from 1000 on."""
    frames: int = 48
    """Frames of the orbit."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU if there is one."""

    def check(self) -> None:
        """Checks the values. Not called by the constructor, because the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        if not self.scenes or not all(0 <= number < 1000 for number in self.scenes):
            fail('scenes', 'must be numbers from 0 up to below 1000', self.scenes, 'From 1000 on they were trained with.')

        if self.frames < 1:
            fail('frames', 'must be at least 1', self.frames, 'Left out, there are 48.')
