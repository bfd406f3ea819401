"""The command `lvsm pose`: estimates poses of loose photos or a video, and checks them against the images."""

from __future__ import annotations

from pathlib import Path

from lvsm_pytorch.configs.pose import PoseConfig
from lvsm_pytorch.data.pose_folder import Posed
from lvsm_pytorch.data.posing import find_poses
from lvsm_pytorch.evaluation.inspection import inspect

PICTURE = 'cameras.png'


def pose(photos: Path, out: Path, config: PoseConfig | None = None) -> Posed:
    """Estimates poses with `find_poses`, prints which photos were registered, and checks the cameras with `inspect`, which plots them in `out/cameras.png`.

    The check is skipped, with a message, if its packages are not installed.

    Args:
        photos: A folder of photos, or a video.
        out: A new or empty folder, or one that this function wrote.
        config: Options; by default their defaults.

    Raises:
        ValueError: As `find_poses`.
    """
    found = find_poses(photos, out, config)
    print(found.report())

    try:
        inspect(found.out, found.out / PICTURE)
    except ImportError as error:
        print(f'the cameras are not checked: {error}')

    print(f'next: lvsm render --model MODEL --data {found.out}')
    return found
