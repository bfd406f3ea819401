"""Scenes and their views, the common form of all data formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lvsm_pytorch.data.images import in_bytes, in_unit, resize_and_crop
from lvsm_pytorch.data.lazy_images import as_lazy
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.normalization import normalize_poses, unit_of

# every eighth view or scene is held out

EVERY = 8


@dataclass(frozen = True)
class View:
    """A posed image.

    Attributes:
        name: File name or time; the order of the names is the order of the scene.
        camera_to_world: (4 4), OpenCV axes. Readers use float64, because cameras may be far from the origin.
        intrinsics: (3 3), in pixels of the image of `load`.
        load: () -> (3 h w) in [0, 1], decoded on demand. A `LazyImage` can also be decoded at a reduced size.
    """
    name: str
    camera_to_world: Tensor
    intrinsics: Tensor
    load: Callable[[], Tensor]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image, in pixels.

        Raises:
            BadView: If the image is unreadable.
        """
        lazy = as_lazy(self.load)

        if lazy is not None:
            return lazy.size

        _, height, width = self.load().shape
        return height, width

    def fitted(self, size: tuple[int, int], *, filter: Literal['bicubic', 'lanczos'] = 'bicubic') -> tuple[Tensor, Tensor]:
        """Returns the image (3 h w), resized and centre-cropped to `size` (height, width), and its intrinsics (3 3).

        Much larger images are decoded at a fraction of their size, to save memory.

        Raises:
            BadView: If the image is unreadable.
        """
        image, intrinsics = self.resized(size, filter)
        return in_unit(image), intrinsics

    def fitted_bytes(self, size: tuple[int, int], *, filter: Literal['bicubic', 'lanczos'] = 'bicubic') -> tuple[Tensor, Tensor]:
        """Returns the same as `fitted` with a uint8 image (3 h w), a quarter of the size to transfer from workers.

        Raises:
            BadView: As `fitted`.
        """
        image, intrinsics = self.resized(size, filter)
        return in_bytes(image), intrinsics

    def resized(self, size: tuple[int, int], filter: Literal['bicubic', 'lanczos']) -> tuple[Tensor, Tensor]:
        lazy = as_lazy(self.load)
        image, intrinsics = (self.load(), self.intrinsics) if lazy is None else lazy.reduced(self.intrinsics, size)
        return resize_and_crop(image, intrinsics, size, filter = filter)

    def thumbnail(self, largest: int) -> tuple[Tensor, Tensor]:
        """Returns the image (3 h w), downscaled if its longer side is above `largest` pixels, and its intrinsics (3 3).

        Raises:
            ValueError: As `fitted`.
        """
        height, width = self.size
        scale = min(1., largest / max(height, width))
        return self.fitted((max(round(height * scale), 1), max(round(width * scale), 1)))


@dataclass(frozen = True)
class Scene:
    """A scene: views in one world frame.

    Attributes:
        name: Independent of the location of the data.
        views: Sorted by name.
        is_video: Whether the views are frames of a video, in order.
        held_out: Names of the test views of the dataset's own split.
        numbers: Numbers of the views in an evaluation index: their positions in the file, invalid ones included. None: their positions in `views`.
    """
    name: str
    views: tuple[View, ...]
    is_video: bool = False
    held_out: frozenset[str] = frozenset()
    numbers: tuple[int, ...] | None = None

    def only(self, positions: Iterable[int]) -> Scene:
        """Returns the scene with the views at some positions only, which keep their numbers."""
        positions = tuple(positions)
        numbers = None if self.numbers is None else tuple(self.numbers[position] for position in positions)
        return replace(self, views = tuple(self.views[position] for position in positions), numbers = numbers)

    def numbered(self) -> dict[int, View]:
        """Returns the views by their numbers in an evaluation index."""
        return dict(zip(range(len(self.views)) if self.numbers is None else self.numbers, self.views, strict = True))


def file_name(view: View) -> str:
    """Returns a PNG file name for a view."""
    return f'{view.name.removesuffix(".png").replace("/", "_")}.png'


def file_names(scene: Scene) -> list[str]:
    """Returns unique PNG file names for the views, also for names such as `a/b.png` and `a_b.png`, which would collide."""
    names: dict[str, None] = {}

    for view in scene.views:
        stem = file_name(view).removesuffix('.png')
        candidates = (f'{stem}.png', *(f'{stem}-{number}.png' for number in range(2, len(scene.views) + 2)))
        names.setdefault(next(name for name in candidates if name not in names))

    return list(names)


def cameras_of(views: Sequence[View]) -> Cameras:
    """Cameras (n) of views: camera_to_world (n 4 4), float64, and intrinsics (n 3 3). n may be 0."""
    if not views:
        return Cameras(torch.empty(0, 4, 4, dtype = torch.float64), torch.empty(0, 3, 3))

    return Cameras(torch.stack([view.camera_to_world.double() for view in views]), torch.stack([view.intrinsics for view in views]))


def hold_out(scene: Scene) -> tuple[Scene, Scene]:
    """Splits a scene into training views and held-out views: those of its own split, or every eighth by name from the first.

    Raises:
        ValueError: If there are fewer than three training views.
    """
    ordered = sorted(range(len(scene.views)), key = lambda position: scene.views[position].name)
    held_out = [position for position in ordered if scene.views[position].name in scene.held_out] if scene.held_out else ordered[::EVERY]
    training = [position for position in ordered if position not in held_out]

    if len(training) < 3:
        fail('scene', f'must have at least three views beside those held out, {"its own" if scene.held_out else f"every {EVERY}th"}', f'{len(ordered)} views in {scene.name}', 'Add photos.')

    return scene.only(training), scene.only(held_out)


def is_rigid(poses: Tensor) -> Tensor:
    """Returns whether poses (... 4 4) are rigid, up to 1e-2: (...) bool."""
    rotation = poses[..., :3, :3]
    off = (rotation.mT @ rotation - torch.eye(3, dtype = poses.dtype)).abs().amax(dim = (-2, -1))
    return poses.isfinite().all(dim = -1).all(dim = -1) & (off < 1e-2) & (torch.linalg.det(rotation) > 0)


def is_rigid_quickly(pose: Tensor) -> bool:
    """Computes `is_rigid` of one pose (4 4) in plain Python, which is twenty times as fast as with small tensors."""
    rows = pose.tolist()
    x, y, z = zip(*(row[:3] for row in rows[:3]), strict = True)

    def dot(a: Sequence[float], b: Sequence[float]) -> float:
        return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]

    off = max(abs(dot(x, x) - 1), abs(dot(y, y) - 1), abs(dot(z, z) - 1), abs(dot(x, y)), abs(dot(x, z)), abs(dot(y, z)))
    cross = x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]
    return off < 1e-2 and dot(cross, z) > 0 and all(math.isfinite(number) for row in rows for number in row)


def check_pose(where: str, pose: Tensor) -> Tensor:
    """Checks that a pose (4 4), camera to world or world to camera, is rigid, and returns it.

    Raises:
        BadView: If not.
    """
    if is_rigid_quickly(pose):
        return pose

    rotation = pose[:3, :3]

    if not pose.isfinite().all():
        fail(where, 'must have a pose of finite numbers', 'inf or nan', 'Remove views without a camera.', BadView)

    if not is_rigid(pose):
        fail(where, 'must have a pose of a rotation and a translation', f'axes of lengths {[round(x, 3) for x in rotation.norm(dim = 0).tolist()]} and determinant {torch.linalg.det(rotation):.3f}',
             'Apply a scale to the translations only, and undo reflections.', BadView)

    return pose


def unit_of_set(scene: Scene) -> float | None:
    """Unit of length of a photo set in training, from all of its cameras; None for a video, where the inputs determine it."""
    return None if scene.is_video else unit_of(normalize_poses(cameras_of(scene.views).camera_to_world).similarity)
