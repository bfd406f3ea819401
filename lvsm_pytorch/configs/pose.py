"""Options of `lvsm pose`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lvsm_pytorch.configs.common import Expanded
from lvsm_pytorch.errors import fail


@dataclass(frozen = True)
class PoseConfig(Expanded):
    """How poses of photos, or of frames of a video, are found."""

    frames: int = 100
    """Of a video: most frames. They are the sharpest of even windows of time."""
    image_size: int = 1600
    """Longer side of the photos at most, in pixels, while features are found and in what is written."""
    features: int = 4096
    """Most features of a photo. Matching takes time by their square."""
    matching: Literal['auto', 'exhaustive', 'sequential'] = 'auto'
    """exhaustive: every photo with every other. sequential: with those that are near in time, or by name. auto: sequential for a video and for
    more than 200 photos."""
    cameras: Literal['auto', 'one', 'each'] = 'auto'
    """Which photos share focal length and distortion. auto: those of one size and, by EXIF, of one lens. one: those of one size. each: none."""
    seed: int = 0
    """Of what is drawn: on one machine, the same seed gives the same poses."""
    threads: int | None = None
    """Threads for features and matches. Left out: one for each core."""
    overwrite: bool = False
    """Throw away what this command wrote into the folder, and begin anew."""

    def check(self) -> None:
        """Checks values, not in the constructor: the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        for name, least in dict(frames = 3, image_size = 64, features = 64, threads = 1).items():
            value = getattr(self, name)

            if value is not None and value < least:
                fail(name, f'must be at least {least}', value, 'Left out, it has a default that works.')
