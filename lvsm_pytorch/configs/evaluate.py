"""Options of `lvsm evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lvsm_pytorch.configs.common import Expanded, Filter, Frame
from lvsm_pytorch.errors import fail


@dataclass(frozen = True)
class EvaluateConfig(Expanded):
    """Render the views that an index names, and say how good they are."""

    model: Path = Path('photos-128')
    """Folder that `lvsm train` or `save_pretrained` wrote, or the name of a model that comes with the library: photos-128, solids-128."""
    data: tuple[Path, ...] | None = None
    """Posed photos in any format that `lvsm train` takes, one folder or several, each a set or a folder of sets; of a folder with `train` and
    `test`, the latter. Left out: those of the run, or built-in scenes that it has not seen. Of the run's own scenes, without an index, those that
    it held out."""
    pose: bool = False
    """Where the data are photos without poses, or a video: find their poses first, as `lvsm pose` does, in a new folder beside them."""
    protocol: Literal['index', 'nearest'] | None = None
    """index: the views that an evaluation index names. nearest: of each set every eighth photo by name is held out, and rendered from the nearest
    of the others by distance and angle, beside a classical plane sweep. Left out: nearest for sets of photos without an index, else index."""
    index: Path | None = None
    """pixelSplat's evaluation index, a JSON file: {scene: {"context": [..], "target": [..]} or null}. Left out, of videos: as `lvsm make-index`
    makes one, with as many inputs as the model was trained with."""
    num_inputs: tuple[int, ...] | None = None
    """Of the protocol nearest: input views, or several numbers of them to compare. Left out: as many as the model was trained with, or else 3."""
    max_views: int | None = None
    """Of the protocol nearest: so many held-out views of each set at most, the first by name. Left out: all."""
    out: Path | None = None
    """Folder for report.json, index.html and what was found of each scene. Left out: MODEL/evaluation, or photos-128-evaluation here."""
    image_size: int | None = None
    """Height and width that photos are resized and cropped to. Left out: as the model was trained."""
    resize_filter: Filter | None = None
    """lanczos is the field's (pixelSplat's), bicubic that of `lvsm train` and `synthesize`. Left out: lanczos by an index, bicubic from the nearest."""
    pose_frame: Frame | None = None
    """World of the rays. inputs: the mean input camera's. inputs_and_targets: that of all views, the protocol of the LVSM authors for their
    weights. scene: the one that a model of one scene was trained in. Left out: as the model was trained; of the authors' weights, theirs."""
    lpips: Literal['vgg', 'alex'] | None = None
    """Network of LPIPS, whose weights torchvision downloads; the field's is vgg. Left out: no LPIPS."""
    robustness_scenes: int = 16
    """Of the protocol index: so many scenes, spread over the index, are also seen in a moved world, and from fewer and more inputs. 0: none."""
    chunk_size: int = 4
    """Views that are rendered together: the more, the more memory."""
    allow_missing: bool = False
    """Report what there is, where scenes of the index are missing; else that is an error."""
    overwrite: bool = False
    """Throw away what is in --out, and begin anew."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU where there is one."""

    def check(self) -> None:
        """Checks values, not in the constructor: the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        for name, least in dict(chunk_size = 1, robustness_scenes = 0).items():
            if getattr(self, name) < least:
                fail(name, f'must be at least {least}', getattr(self, name), 'Left out, it has a default that works.')

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
