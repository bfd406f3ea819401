"""The one form that all data has: a scene is a name and its views."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lvsm_pytorch.data.images import resize_and_crop
from lvsm_pytorch.data.lazy_images import as_lazy
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.normalization import normalize_poses, unit_of

# of so many views, or scenes, one is held out

EVERY = 8


@dataclass(frozen = True)
class View:
    """A posed image.

    Attributes:
        name: File name or time; the order of the names is the order of the scene.
        camera_to_world: (4 4), OpenCV axes; float64 as readers give it, since a world may be far from its origin.
        intrinsics: (3 3), in pixels of the image that `load` gives.
        load: () -> (3 h w) in [0, 1]; decoded on demand. A `LazyImage` can also be had smaller.
    """
    name: str
    camera_to_world: Tensor
    intrinsics: Tensor
    load: Callable[[], Tensor]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image, in pixels.

        Raises:
            BadView: For one that has to be read for it, and can't be.
        """
        lazy = as_lazy(self.load)

        if lazy is not None:
            return lazy.size

        _, height, width = self.load().shape
        return height, width

    def fitted(self, size: tuple[int, int], *, filter: Literal['bicubic', 'lanczos'] = 'bicubic') -> tuple[Tensor, Tensor]:
        """The image (3 h w) resized and cropped to `size` (height, width), in the middle, and its intrinsics (3 3).

        What is far larger is decoded at a fraction, so that it takes little memory.

        Raises:
            BadView: For an image that can't be read.
        """
        lazy = as_lazy(self.load)
        image, intrinsics = (self.load(), self.intrinsics) if lazy is None else lazy.reduced(self.intrinsics, size)
        return resize_and_crop(image, intrinsics, size, filter = filter)

    def thumbnail(self, largest: int) -> tuple[Tensor, Tensor]:
        """The image (3 h w), made smaller where its longer side is above `largest` pixels, and its intrinsics (3 3).

        Raises:
            ValueError: As `fitted`.
        """
        height, width = self.size
        scale = min(1., largest / max(height, width))
        return self.fitted((max(round(height * scale), 1), max(round(width * scale), 1)))


@dataclass(frozen = True)
class Scene:
    """Views in one world frame.

    Attributes:
        name: Stays the same wherever the data lies.
        views: Sorted by name.
        is_video: Whether they follow each other in time, so that those with near numbers see about the same.
        held_out: Names of the views that the dataset itself sets aside for tests.
        numbers: Of the views, as an evaluation index counts them: where they stand in the file, with those that can't be used. None where that is how `views` has them.
    """
    name: str
    views: tuple[View, ...]
    is_video: bool = False
    held_out: frozenset[str] = frozenset()
    numbers: tuple[int, ...] | None = None

    def only(self, positions: Iterable[int]) -> Scene:
        """Some of its views, by where they stand in `views`, with their numbers."""
        positions = tuple(positions)
        numbers = None if self.numbers is None else tuple(self.numbers[position] for position in positions)
        return replace(self, views = tuple(self.views[position] for position in positions), numbers = numbers)

    def numbered(self) -> dict[int, View]:
        """Views by their numbers in an evaluation index."""
        return dict(zip(range(len(self.views)) if self.numbers is None else self.numbers, self.views, strict = True))


def file_name(view: View) -> str:
    """A PNG's, for writing it into a folder of its scene."""
    return f'{view.name.removesuffix(".png").replace("/", "_")}.png'


def file_names(scene: Scene) -> list[str]:
    """PNGs' names for its views, each its own: `a/b.png` and `a_b.png` would else be one file."""
    names: dict[str, None] = {}

    for view in scene.views:
        stem = file_name(view).removesuffix('.png')
        candidates = (f'{stem}.png', *(f'{stem}-{number}.png' for number in range(2, len(scene.views) + 2)))
        names.setdefault(next(name for name in candidates if name not in names))

    return list(names)


def cameras_of(views: Sequence[View]) -> Cameras:
    """Their camera_to_world (n 4 4), float64, and intrinsics (n 3 3). Of no views, n is 0."""
    if not views:
        return Cameras(torch.empty(0, 4, 4, dtype = torch.float64), torch.empty(0, 3, 3))

    return Cameras(torch.stack([view.camera_to_world.double() for view in views]), torch.stack([view.intrinsics for view in views]))


def hold_out(scene: Scene) -> tuple[Scene, Scene]:
    """The scene's views for training, and those held out: the scene's own, or by name the first and every eighth after it.

    Raises:
        ValueError: Where fewer than three views are left to train with.
    """
    ordered = sorted(range(len(scene.views)), key = lambda position: scene.views[position].name)
    held_out = [position for position in ordered if scene.views[position].name in scene.held_out] if scene.held_out else ordered[::EVERY]
    training = [position for position in ordered if position not in held_out]

    if len(training) < 3:
        fail('scene', f'must have at least three views beside those held out, {"its own" if scene.held_out else f"every {EVERY}th"}', f'{len(ordered)} views in {scene.name}', 'Add photos.')

    return scene.only(training), scene.only(held_out)


def is_rigid(poses: Tensor) -> Tensor:
    """Which poses (... 4 4) are a rotation and a translation, up to 1e-2: (...) bool."""
    rotation = poses[..., :3, :3]
    off = (rotation.mT @ rotation - torch.eye(3, dtype = poses.dtype)).abs().amax(dim = (-2, -1))
    return poses.isfinite().all(dim = -1).all(dim = -1) & (off < 1e-2) & (torch.linalg.det(rotation) > 0)


def is_rigid_quickly(pose: Tensor) -> bool:
    """As `is_rigid`, of one pose (4 4), in numbers of Python: tensors of nine numbers take twenty times as long, and a scene has hundreds."""
    rows = pose.tolist()
    x, y, z = zip(*(row[:3] for row in rows[:3]), strict = True)

    def dot(a: Sequence[float], b: Sequence[float]) -> float:
        return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]

    off = max(abs(dot(x, x) - 1), abs(dot(y, y) - 1), abs(dot(z, z) - 1), abs(dot(x, y)), abs(dot(x, z)), abs(dot(y, z)))
    cross = x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]
    return off < 1e-2 and dot(cross, z) > 0 and all(math.isfinite(number) for row in rows for number in row)


def check_pose(where: str, pose: Tensor) -> Tensor:
    """The pose (4 4), camera to world or back, if it is a rotation and a place.

    Raises:
        BadView: For others.
    """
    if is_rigid_quickly(pose):
        return pose

    rotation = pose[:3, :3]

    if not pose.isfinite().all():
        fail(where, 'must have a pose of finite numbers', 'inf or nan', 'Take out what has no camera.', BadView)

    if not is_rigid(pose):
        fail(where, 'must have a pose of a rotation and a translation', f'axes of lengths {[round(x, 3) for x in rotation.norm(dim = 0).tolist()]} and determinant {torch.linalg.det(rotation):.3f}',
             'A scale belongs to the translations, and a mirrored world has to be turned back.', BadView)

    return pose


def unit_of_set(scene: Scene) -> float | None:
    """The length that is 1 in training: of a set of photos by all of its cameras; None of a video, where inputs say it."""
    return None if scene.is_video else unit_of(normalize_poses(cameras_of(scene.views).camera_to_world).similarity)
