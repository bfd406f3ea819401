"""Options of `lvsm view`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lvsm_pytorch.configs.common import Expanded


@dataclass(frozen = True)
class ViewConfig(Expanded):
    """Walk through a scene in the browser: move the camera, and the model renders what it sees."""

    model: Path = Path('photos-128')
    """Folder that `lvsm train` or `save_pretrained` wrote, or the name of a model that comes with the library: photos-128, solids-128."""
    data: Path | None = None
    """Posed photos in any format that `lvsm train` takes. Left out: what the run was trained on, or built-in scenes that it was not."""
    pose: bool = False
    """Where the data are photos without poses, or a video: find their poses first, as `lvsm pose` does, in a new folder beside them."""
    scene: int = 0
    """Number of the scene that is shown first, where there are several."""
    out: Path | None = None
    """Folder for the films that are recorded. Left out: MODEL/view, or photos-128-view here."""
    host: str = '127.0.0.1'
    """Address to serve at. By default nobody but this machine can look; 0.0.0.0 is for everybody who can reach it."""
    port: int = 8080
    """Port to serve at, or the next one that is free."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU where there is one."""
