"""Checks shared by all readers: paths written by other tools, plausible intrinsics, invalid frames."""

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

# degrees; wider pinhole images consist mostly of stretched borders

WIDEST_VIEW = 175.

Thing = TypeVar('Thing')


# paths

def path_inside(folder: Path, name: str) -> Path | None:
    """Resolves a path relative to a folder, with forward or back slashes. None for a path that leaves the folder as it is written (`..`, absolute).

    Symbolic links are followed, because the owner of the folder made them.
    """
    folder = Path(os.path.abspath(folder))
    path = Path(os.path.normpath(folder / name))

    if '\\' in name and not path.exists():
        path = Path(os.path.normpath(folder / name.replace('\\', '/')))

    return path if path.is_relative_to(folder) or path.is_relative_to(folder.resolve()) else None


def looked_for(path: Path) -> str:
    """Returns a description of a missing file for errors: its path, or the broken link on the way."""
    broken = next((each for each in (path, *path.parents) if each.is_symlink() and not each.exists()), None)
    return f'Looked for {path}.' if broken is None else f'{broken} is a link to {os.readlink(broken)}, which is not there.'


def name_inside(folder: Path, path: Path) -> str:
    """Returns the path of a file from `path_inside`, relative to the folder, with forward slashes."""
    folder = Path(os.path.abspath(folder))
    return path.relative_to(folder if path.is_relative_to(folder) else folder.resolve()).as_posix()


# intrinsics

def check_intrinsics(where: str, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """Checks that intrinsics (3 3) are plausible for an image of `size` (height, width), and returns them.

    Raises:
        BadView: If they are implausible, with the likely cause.
    """
    height, width = size
    (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()

    if not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
        fail(where, 'must have finite numbers as intrinsics, and focal lengths above 0', (fx, fy, cx, cy), 'They are in pixels of the image.', BadView)

    got = f'focal lengths {fx:.4g}, {fy:.4g} and a principal point of {cx:.4g}, {cy:.4g}'

    if min(size) > 2 and 0 < cx <= 1 and 0 < cy <= 1:
        fail(where, f'must have intrinsics in pixels of its image, {width} × {height}', got, 'They seem to be fractions of the image: multiply fx and cx by its width, fy and cy by its height.', BadView)

    if not (0 < cx < width and 0 < cy < height):
        fail(where, f'must have its principal point inside its image, {width} × {height}', got, 'They seem to belong to another size of the image: add that size (w and h), or scale them.', BadView)

    angle = math.degrees(math.atan(cx / fx) + math.atan((width - cx) / fx))

    if angle > WIDEST_VIEW:
        fail(where, f'must be less than {WIDEST_VIEW:.0f} degrees wide, as pinhole cameras are', f'{angle:.1f}, from {got} in an image of {width} × {height}', 'Are they in pixels of the image?', BadView)

    return intrinsics


def check_resolution(where: str, intrinsics: Tensor, sizes: Sequence[tuple[int, int]]) -> None:
    """Checks that the intrinsics (n 3 3) of a scene are not those of images downscaled by 2, 4 or 8 from `sizes` (height, width).

    Raises:
        BadView: If they are.
    """
    across = intrinsics[:, :2, 2].double() / torch.tensor(sizes, dtype = torch.float64).flip(-1)
    middle = across.quantile(0.5, dim = 0)

    for factor in (2, 4, 8):
        if ((middle * 2 * factor - 1).abs() < 0.04).all():
            fail(where, 'must have intrinsics of its images at their stored size', f'principal points at 1/{2 * factor} of width and height, as of images {factor} times smaller',
                 'Add the size that they belong to (w and h), or scale them.', BadView)


# invalid frames

def usable(where: str, problems: Problems, readers: dict[str, Callable[[], Thing]]) -> dict[str, Thing]:
    """Calls the reader of each frame and returns the results by name. Invalid frames are skipped and recorded in `problems`.

    Raises:
        BadView: If no frame is valid.
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
