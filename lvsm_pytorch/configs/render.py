"""Options of `lvsm render`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lvsm_pytorch.configs.common import Expanded
from lvsm_pytorch.errors import check_above_zero, check_at_least, fail


@dataclass(frozen = True)
class RenderConfig(Expanded):
    """Render frames along a camera path, or held-out views."""

    model: Path = Path('photos-128')
    """A folder of `lvsm train` or `save_pretrained`, or the name of a packaged model: photos-128, solids-128."""
    data: Path | None = None
    """Posed photos in any format of `lvsm train`. By default the data of the run, or a built-in scene outside of training."""
    pose: bool = False
    """For photos without poses, or a video: estimate their poses first, as `lvsm pose` does, into a new folder beside them."""
    path: str = 'interpolate'
    """interpolate: from one input camera to the next. orbit: around the point that the cameras look at, at their distance. held-out: the
    held-out views, beside the truth, with PSNR and SSIM. Or a JSON file: {"camera_to_world": [4 × 4, ..]} in OpenCV axes and the world of
    the photos, optionally with "intrinsics", "size" and "fps"; or a camera path of nerfstudio, with its dataparser_transforms.json beside
    it."""
    scene: int = 0
    """Number of the scene, if there are several."""
    num_inputs: int | None = None
    """Photos that a frame is rendered from, the nearest to its camera. By default as many as in training."""
    inputs: tuple[int, ...] | None = None
    """Numbers of the photos that all frames are rendered from, instead of the nearest."""
    out: Path | None = None
    """Folder for the frames and the video. By default MODEL/render, or photos-128-render in the working directory."""
    frames: int = 60
    """Frames of an interpolation or an orbit."""
    fps: float = 30.
    """Frames per second."""
    height: int | None = None
    """Height of the frames in pixels. By default that of training."""
    width: int | None = None
    """Width of the frames in pixels. By default that of training."""
    video: Literal['mp4', 'gif', 'both', 'none'] = 'mp4'
    """Video formats to write, beside PNG files."""
    chunk_size: int = 4
    """Frames rendered at once. More need more memory."""
    overwrite: bool = False
    """Delete the contents of --out and start again."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU if there is one."""

    def check(self) -> None:
        """Checks the values. Not called by the constructor, because the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        check_at_least(1, num_inputs = self.num_inputs)
        check_above_zero(frames = self.frames, chunk_size = self.chunk_size, fps = self.fps)

        if (self.height is None) != (self.width is None):
            fail('height, width', 'must be given together, or not at all', (self.height, self.width), 'Left out, they are as the model was trained.')

        if self.height is not None and self.width is not None and min(self.height, self.width) < 1:
            fail('height, width', 'must be at least 1', (self.height, self.width), 'Left out, they are as the model was trained.')
