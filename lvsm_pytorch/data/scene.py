"""The one form that all data has: a scene is a name and its views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.normalization import normalize_poses, unit_of

# of so many views, or scenes, one is held out

EVERY = 8


@dataclass(frozen = True)
class View:
    """A posed image.

    name: file name or time; the order of the names is the order of the scene.
    camera_to_world: (4 4), OpenCV axes.
    intrinsics: (3 3), in pixels of the image that `load` gives.
    load: () -> (3 h w) in [0, 1]; decoded on demand.
    """
    name: str
    camera_to_world: Tensor
    intrinsics: Tensor
    load: Callable[[], Tensor]


@dataclass(frozen = True)
class Scene:
    """Views in one world frame.

    name: stays the same wherever the data lies.
    views: sorted by name.
    is_video: whether they follow each other in time, so that those with near numbers see about the same.
    held_out: names of the views that the dataset itself sets aside for tests.
    numbers: of the views, as an evaluation index counts them: where they stand in the file, with those that can't be used. None where that is how `views` has them.
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


def cameras_of(views: Sequence[View]) -> Cameras:
    """Their camera_to_world (n 4 4) and intrinsics (n 3 3)."""
    return Cameras(torch.stack([view.camera_to_world for view in views]), torch.stack([view.intrinsics for view in views]))


def hold_out(scene: Scene) -> tuple[Scene, Scene]:
    """The scene's views for training, and those held out: the scene's own, or by name the first and every eighth after it.

    Errors: ValueError where fewer than three views are left to train with.
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


def check_pose(where: str, pose: Tensor) -> Tensor:
    """The pose (4 4), camera to world or back, if it is a rotation and a place. Errors: BadView for others."""
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
