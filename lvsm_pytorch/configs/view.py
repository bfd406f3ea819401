"""Options of `lvsm view`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lvsm_pytorch.configs.common import Expanded
from lvsm_pytorch.errors import check_at_least, fail


@dataclass(frozen = True)
class ViewConfig(Expanded):
    """Explore a scene in the browser: the model renders the view of a camera that you move."""

    model: Path = Path('photos-128')
    """A folder of `lvsm train` or `save_pretrained`, or the name of a packaged model: photos-128, solids-128."""
    data: Path | None = None
    """Posed photos in any format of `lvsm train`. By default the data of the run, or built-in scenes outside of training."""
    pose: bool = False
    """For photos without poses, or a video: estimate their poses first, as `lvsm pose` does, into a new folder beside them."""
    scene: int = 0
    """Number of the first scene to show, if there are several."""
    out: Path | None = None
    """Folder for recorded videos. By default MODEL/view, or photos-128-view in the working directory."""
    host: str = '127.0.0.1'
    """Address to serve on. The default is reachable from this machine only; 0.0.0.0 from every machine that can connect to it, for those who have the printed URL with its random token."""
    port: int = 8080
    """Port to serve on, or the next free one."""
    max_visitors: int = 8
    """Maximum number of open pages."""
    max_films: int = 100
    """Maximum number of films that are rendered, by all visitors together."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU if there is one."""

    def check(self) -> None:
        """Checks the values. Not called by the constructor, because the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        if not 0 <= self.port < 65536:
            fail('port', 'must be from 0 up to below 65536', self.port, 'Left out, it is 8080, or the next free one.')

        check_at_least(1, max_visitors = self.max_visitors)
        check_at_least(0, max_films = self.max_films)
