"""Options of `lvsm pose`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lvsm_pytorch.configs.common import Expanded
from lvsm_pytorch.errors import check_at_least


@dataclass(frozen = True)
class PoseConfig(Expanded):
    """Options of structure from motion."""

    frames: int = 100
    """For a video: maximum number of frames, the sharpest of equal intervals of time."""
    image_size: int = 1600
    """Maximum length of the longer side in pixels, for features and for the photos that are written."""
    features: int = 4096
    """Maximum number of features of a photo. Matching time grows with its square."""
    matching: Literal['auto', 'exhaustive', 'sequential'] = 'auto'
    """exhaustive: every photo with every other. sequential: each photo with its neighbours in time or by name. auto: sequential for a video
    and for more than 200 photos, else exhaustive."""
    cameras: Literal['auto', 'one', 'each'] = 'auto'
    """Photos that share focal length and distortion. auto: those of one size and, by EXIF, of one lens. one: those of one size. each: none."""
    seed: int = 0
    """Random seed. The same seed gives the same poses on one machine."""
    threads: int | None = None
    """Threads for features and matching. By default one for each core."""
    overwrite: bool = False
    """Delete the earlier output of this command in the folder and start again."""

    def check(self) -> None:
        """Checks the values. Not called by the constructor, because the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        check_at_least(3, frames = self.frames)
        check_at_least(64, image_size = self.image_size, features = self.features)
        check_at_least(1, threads = self.threads)
