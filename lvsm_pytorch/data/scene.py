"""The one form that all data has: a scene is a name and its views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lvsm_pytorch.checks import fail


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
    """Views in one world frame. name: stays the same wherever the data lies."""
    name: str
    views: tuple[View, ...]


def hold_out(scene: Scene, *, every: int = 8) -> tuple[Scene, Scene]:
    """The scene's views for training, and those held out: by name, the first and every `every`-th after it.

    Errors: ValueError where fewer than three views are left to train with.
    """
    views = sorted(scene.views, key = lambda view: view.name)
    held_out = views[::every]
    training = [view for index, view in enumerate(views) if index % every != 0]

    if len(training) < 3:
        fail('scene', f'must have at least three views beside every {every}th, which is held out', f'{len(views)} views in {scene.name}', 'Add photos.')

    return Scene(scene.name, tuple(training)), Scene(scene.name, tuple(held_out))
