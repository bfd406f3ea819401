"""Options of `lvsm render`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lvsm_pytorch.configs.common import Expanded
from lvsm_pytorch.errors import fail


@dataclass(frozen = True)
class RenderConfig(Expanded):
    """Render what a camera sees that nobody held."""

    model: Path = Path('photos-128')
    """Folder that `lvsm train` or `save_pretrained` wrote, or the name of a model that comes with the library: photos-128, solids-128."""
    data: Path | None = None
    """Posed photos in any format that `lvsm train` takes. Left out: what the run was trained on, or a built-in scene that it was not."""
    pose: bool = False
    """Where the data are photos without poses, or a video: find their poses first, as `lvsm pose` does, in a new folder beside them."""
    path: str = 'interpolate'
    """interpolate: from one input camera to the next. orbit: around what they look at, as far as they stand around it. held-out: the views that
    were held out, beside the truth, with their figures. Or a JSON file: {"camera_to_world": [4 × 4, ..]}, OpenCV axes, in the world of the
    photos, and if need be "intrinsics", "size" and "fps"; or a camera path of nerfstudio, with its dataparser_transforms.json beside it."""
    scene: int = 0
    """Number of the scene, where there are several."""
    num_inputs: int | None = None
    """Photos that a frame is rendered from: the nearest ones to its camera. By default as many as the model was trained with."""
    inputs: tuple[int, ...] | None = None
    """Numbers of the photos that all frames are rendered from, in place of the nearest ones."""
    out: Path | None = None
    """Folder for frames and film. Left out: MODEL/render, or photos-128-render here."""
    frames: int = 60
    """Frames of an interpolation or an orbit."""
    fps: float = 30.
    """Frames a second."""
    height: int | None = None
    """Of the frames, in pixels. Left out: as the model was trained."""
    width: int | None = None
    """Of the frames, in pixels. Left out: as the model was trained."""
    video: Literal['mp4', 'gif', 'both', 'none'] = 'mp4'
    """What to make of the frames, beside PNG files."""
    chunk_size: int = 4
    """Frames that are rendered together: the more, the more memory."""
    overwrite: bool = False
    """Throw away what is in --out, and begin anew."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU where there is one."""

    def check(self) -> None:
        """Checks values, not in the constructor: the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        for name in ('frames', 'chunk_size', 'fps'):
            if not getattr(self, name) > 0:
                fail(name, 'must be above 0', getattr(self, name), 'Left out, it has a default that works.')

        if (self.height is None) != (self.width is None):
            fail('height, width', 'must both be said, or neither', (self.height, self.width), 'Left out, they are as the model was trained.')

        if self.height is not None and self.width is not None and min(self.height, self.width) < 1:
            fail('height, width', 'must be at least 1', (self.height, self.width), 'Left out, they are as the model was trained.')
