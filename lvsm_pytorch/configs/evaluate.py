"""Options of `lvsm evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lvsm_pytorch.configs.common import Expanded, Filter, Frame
from lvsm_pytorch.errors import check_at_least, fail


@dataclass(frozen = True)
class EvaluateConfig(Expanded):
    """Render held-out views and compare them with the truth."""

    model: Path = Path('photos-128')
    """A folder of `lvsm train` or `save_pretrained`, or the name of a packaged model: photos-128, solids-128."""
    data: tuple[Path, ...] | None = None
    """Posed photos in any format of `lvsm train`: one folder or address or several, each a set or a folder of sets. Of a folder with `train` and
    `test`, `test` is used. By default the data of the run, or built-in scenes outside of training. Without an index, the held-out scenes of
    the run are evaluated."""
    pose: bool = False
    """For photos without poses, or a video: estimate their poses first, as `lvsm pose` does, into a new folder beside them."""
    protocol: Literal['index', 'nearest'] | None = None
    """index: render the views listed in an evaluation index. nearest: hold out every eighth photo by name, and render it from the nearest of
    the others by distance and angle, beside a classical plane sweep. By default nearest for photo sets without an index, else index."""
    index: Path | None = None
    """Evaluation index of pixelSplat, a JSON file: {scene: {"context": [..], "target": [..]} or null}. By default, for videos, one as `lvsm
    make-index` writes it, with the number of inputs of training."""
    num_inputs: tuple[int, ...] | None = None
    """For the protocol nearest: number of input views, or several numbers to compare. By default that of training, or 3."""
    max_views: int | None = None
    """For the protocol nearest: maximum number of held-out views of a set, the first by name. By default all."""
    out: Path | None = None
    """Folder for report.json, index.html and the figures of each scene. By default MODEL/evaluation, or photos-128-evaluation in the working
    directory."""
    image_size: int | None = None
    """Height and width that photos are resized and cropped to. By default that of training."""
    resize_filter: Filter | None = None
    """Filter for resizing. lanczos is that of pixelSplat, bicubic that of `lvsm train` and `synthesize`. By default lanczos for the protocol
    index, bicubic for nearest."""
    pose_frame: Frame | None = None
    """World frame of the rays. inputs: that of the mean input camera. inputs_and_targets: that of all views, the protocol of the LVSM
    authors for their weights. scene: that of a model of one scene. By default that of training, or the authors' for their weights."""
    lpips: Literal['vgg', 'alex'] | None = None
    """Network of LPIPS, whose weights torchvision downloads; vgg is usual. By default LPIPS is not computed."""
    robustness_scenes: int = 16
    """For the protocol index: number of scenes that are also rendered in a moved world, and from fewer and more inputs. 0: none."""
    chunk_size: int = 4
    """Views rendered at once. More need more memory."""
    allow_missing: bool = False
    """Report the scenes that are found when others of the index are missing, instead of an error."""
    overwrite: bool = False
    """Delete the contents of --out and start again."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU if there is one."""

    def check(self) -> None:
        """Checks the values. Not called by the constructor, because the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        check_at_least(1, chunk_size = self.chunk_size)
        check_at_least(0, robustness_scenes = self.robustness_scenes)

        if isinstance(self.data, str | Path):
            fail('data', 'must be a tuple of folders', repr(self.data), 'Of one folder, write (folder,).')

        if self.num_inputs is not None and (not self.num_inputs or min(self.num_inputs) < 1):
            fail('num_inputs', 'must be numbers of at least 1', self.num_inputs, 'Left out, it is as the model was trained.')

        if self.max_views is not None and self.max_views < 1:
            fail('max_views', 'must be at least 1', self.max_views, 'Left out, all held-out views are evaluated.')

        if self.protocol == 'nearest' and self.index is not None:
            fail('index', 'must be left out with the protocol nearest, which chooses views by itself', self.index, 'Leave out --protocol to evaluate by the index.')

        if self.image_size is not None and self.image_size < 1:
            fail('image_size', 'must be at least 1', self.image_size, 'Left out, it is as the model was trained.')
