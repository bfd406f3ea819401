"""What all readers check: paths as other tools write them, intrinsics that can be of the image, frames of which some are bad."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.errors import fail

# degrees: a pinhole's image of a wider view is nearly all border

WIDEST_VIEW = 175.

Thing = TypeVar('Thing')


# paths

def path_inside(folder: Path, name: str) -> Path | None:
    """The path of a file that is named relative to a folder, by whatever tool on whatever system.

    Links are followed wherever they lead, since who owns the folder made them. What leads out of it as it is written (`..`, absolute) is None.
    """
    folder = Path(os.path.abspath(folder))
    path = Path(os.path.normpath(folder / name))

    if '\\' in name and not path.exists():
        path = Path(os.path.normpath(folder / name.replace('\\', '/')))

    return path if path.is_relative_to(folder) or path.is_relative_to(folder.resolve()) else None


def looked_for(path: Path) -> str:
    """What is to be said of a file that is not there: where it was looked for, or which link leads nowhere."""
    broken = next((each for each in (path, *path.parents) if each.is_symlink() and not each.exists()), None)
    return f'Looked for {path}.' if broken is None else f'{broken} is a link to {os.readlink(broken)}, which is not there.'


def name_inside(folder: Path, path: Path) -> str:
    """Of a file that `path_inside` found: relative to the folder, with slashes."""
    folder = Path(os.path.abspath(folder))
    return path.relative_to(folder if path.is_relative_to(folder) else folder.resolve()).as_posix()


# intrinsics

def check_intrinsics(where: str, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """Intrinsics (3 3) that can be of an image of `size` (height, width), whose principal point is inside it.

    Raises:
        BadView: For others, that says what they seem to be of.
    """
    height, width = size
    (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()

    if not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
        fail(where, 'must have finite numbers as intrinsics, and focal lengths above 0', (fx, fy, cx, cy), 'They are in pixels of the image.', BadView)

    got = f'focal lengths {fx:.4g}, {fy:.4g} and a principal point of {cx:.4g}, {cy:.4g}'

    if min(size) > 2 and 0 < cx <= 1 and 0 < cy <= 1:
        fail(where, f'must have intrinsics in pixels of its image, {width} × {height}', got, 'They seem to be fractions of the image: multiply fx and cx by its width, fy and cy by its height.', BadView)

    if not (0 < cx < width and 0 < cy < height):
        fail(where, f'must have its principal point inside of its image, {width} × {height}', got, 'They seem to be intrinsics of another size of it: say which (w and h), or scale them.', BadView)

    angle = math.degrees(math.atan(cx / fx) + math.atan((width - cx) / fx))

    if angle > WIDEST_VIEW:
        fail(where, f'must be less than {WIDEST_VIEW:.0f} degrees wide, as pinholes are', f'{angle:.1f}, by {got} in an image of {width} × {height}', 'Are they in pixels of the image?', BadView)

    return intrinsics


def check_resolution(where: str, intrinsics: Tensor, sizes: Sequence[tuple[int, int]]) -> None:
    """That a scene's intrinsics (n 3 3) are not all those of images at a half or less of these sizes (height, width).

    Raises:
        BadView: Where that is not so.
    """
    across = intrinsics[:, :2, 2].double() / torch.tensor(sizes, dtype = torch.float64).flip(-1)
    middle = across.quantile(0.5, dim = 0)

    for factor in (2, 4, 8):
        if ((middle * 2 * factor - 1).abs() < 0.04).all():
            fail(where, 'must have intrinsics of its images as they are', f'principal points at 1/{2 * factor} of width and height, as of images {factor} times smaller',
                 'Say the size that they are of (w and h), or scale them.', BadView)


# frames of which some are bad

def usable(where: str, problems: Problems, readers: dict[str, Callable[[], Thing]]) -> dict[str, Thing]:
    """What the readers of frames give, by their names. Bad ones are skipped and noted; where all are, that is one error.

    Raises:
        BadView: Where none is left.
    """
    def attempt(name: str, read: Callable[[], Thing]) -> Thing | str:
        try:
            return read()
        except BadView as error:
            return str(error).removeprefix(f'{name}: ')

    attempts = {name: attempt(name, read) for name, read in readers.items()}
    found = {name: each for name, each in attempts.items() if not isinstance(each, str)}
    bad = {name: each for name, each in attempts.items() if isinstance(each, str)}

    if not found:
        name, why = next(iter(bad.items()), (where, 'there is none'))
        fail(where, 'must have at least one frame that can be used', f'none of {len(readers)}', f'The first of them, {name}: {why}', BadView)

    for name, why in bad.items():
        problems.skip(name, why)

    return found
