"""A scene to walk around in: encoded photos, and views of any camera, at the resolution that there is time for."""

from __future__ import annotations

import math
import threading
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.data import Problems, Scene, View, cameras_of
from lvsm_pytorch.geometry.cameras import Cameras, move_poses
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.geometry.trajectories import interpolate_poses
from lvsm_pytorch.geometry.view_selection import camera_distance, spacings
from lvsm_pytorch.inference.pipeline import EncodedPhotos, encode_photos
from lvsm_pytorch.inference.scenes import FittedViews, unit_for
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.views import whole_patches

# a view that takes longer is rendered smaller while the camera moves

SECONDS_A_VIEW = 0.1
FRACTIONS = (1., 0.75, 0.5, 0.375, 0.25)

MOST_INPUTS = 16

# scenes as they were read, by number of photos and mode: of large models each may take gigabytes

MOST_READ = 4

# of a window, width by height or the other way round, to which views are rendered; in what is longer they are stretched

WIDEST = 3


class ViewerCamera(NamedTuple):
    """The camera of a visitor.

    Attributes:
        camera_to_world: (4 4), OpenCV axes, in the shown world.
        fov: Vertical, in radians.
        aspect: Width by height.
    """
    camera_to_world: Tensor
    fov: float
    aspect: float


class Nearest(NamedTuple):
    """The photo whose camera is nearest to a camera, and its number.

    Attributes:
        is_input: Whether it is an input view.
    """
    view: View
    number: int
    is_input: bool


class Stage:
    """The shown world is that of the mean camera, with cameras about 1 apart, so that a browser's scene has the same size whatever the photos' unit.

    Args:
        model: In either mode.
        scene: To walk around in.
        size: (height, width) of photos as the model reads them.
        lock: For one view at a time, whoever asks, of whichever scene.
    """

    def __init__(self, model: LVSM, scene: Scene, size: tuple[int, int], lock: threading.Lock, problems: Problems | None = None):
        self.problems = Problems() if problems is None else problems
        self.model = model
        self.scene = scene
        poses = cameras_of(scene.views).camera_to_world
        self.to_shown = normalize_poses(poses).similarity
        self.shown = move_poses(self.to_shown, poses).float()
        self.most_inputs = min(MOST_INPUTS, len(scene.views))
        self.size = size
        self.lock = lock
        self.read = lru_cache(maxsize = MOST_READ)(self.read_anew)
        self.photos = FittedViews(scene, size, self.problems)
        self.inputs = lru_cache(maxsize = MOST_INPUTS)(self.photos.some_inputs)

    def spacing(self) -> float:
        """Of the cameras in the shown world: median distance from one to the nearest other; 1 where there is but one."""
        apart = spacings(self.shown[:, :3, 3]).median()
        return float(apart) if apart.isfinite() and apart > 0 else 1.

    def read_anew(self, count: int, input_attends_target: bool) -> EncodedPhotos:
        unit = unit_for(self.model, self.scene)
        return encode_photos(self.model, *self.photos.of(self.inputs(count)), input_size = self.size, unit = unit, input_attends_target = input_attends_target)

    def picture(self, number: int, largest: int) -> Tensor | None:
        """A photo (3 h w), by its number, of at most `largest` pixels a side; None for one that can't be read."""
        view = self.scene.views[number]
        found = self.problems.attempt(f'{self.scene.name}/{view.name}', partial(view.thumbnail, largest))
        return None if found is None else found[0]

    @cached_property
    def fov(self) -> float:
        """Of the photos, vertical, in radians, as they are cut for the model."""
        view = self.scene.views[self.inputs(1)[0]]
        height, width = view.size
        covered = min(height, width * self.size[0] / self.size[1])
        return 2 * math.atan(covered / 2 / float(view.intrinsics[1, 1]))

    def fov_of_window(self, aspect: float) -> float:
        """As much of the scene as on the photos, at another width by height: vertical, in radians."""
        return 2 * math.atan(math.tan(self.fov / 2) * math.sqrt(self.size[1] / self.size[0] / bounded(aspect)))

    def nearest(self, camera: ViewerCamera, count: int) -> Nearest:
        every = torch.cat((camera.camera_to_world.float().unsqueeze(0), self.shown))
        number = int(camera_distance(every)[0, 1:].argmin())
        return Nearest(self.scene.views[number], number, number in self.inputs(count))

    def whole_size(self, camera: ViewerCamera) -> tuple[int, int]:
        """(height, width) of a view as sharp as the model renders: of as many pixels as it was trained with, as wide by high as the window."""
        side = math.sqrt(self.size[0] * self.size[1])
        return round(side / math.sqrt(bounded(camera.aspect))), round(side * math.sqrt(bounded(camera.aspect)))

    def render(self, camera: ViewerCamera, size: tuple[int, int], count: int, input_attends_target: bool) -> Tensor:
        """(3 h w) in [0, 1].

        Args:
            size: (height, width) in pixels.
            count: Of input photos.
        """
        return self.render_camera(self.to_cameras(camera.camera_to_world.unsqueeze(0), camera.fov, size), 0, size, count, input_attends_target)

    def render_camera(self, cameras: Cameras, number: int, size: tuple[int, int], count: int, input_attends_target: bool) -> Tensor:
        """As `render`, for one of several cameras, in the world of the photos."""
        with self.lock:
            view, = self.read(count, input_attends_target).render(cameras[number:number + 1], size)

        return view[0]

    def to_cameras(self, shown: Tensor, fov: float, size: tuple[int, int]) -> Cameras:
        """Cameras of keyframes (n 4 4), in the world of the photos."""
        height, width = size
        focal = height / 2 / math.tan(fov / 2)
        intrinsics = torch.tensor([[focal, 0., width / 2], [0., focal, height / 2], [0., 0., 1.]])
        poses = move_poses(torch.linalg.inv(self.to_shown), shown.double())
        return Cameras(poses, intrinsics.expand(len(poses), 3, 3))

    def path(self, keyframes: list[ViewerCamera], frames_a_leg: int, size: tuple[int, int]) -> Cameras:
        """Cameras through keyframes, in the world of the photos."""
        poses = torch.stack([camera.camera_to_world for camera in keyframes])
        path = poses if len(keyframes) == 1 else interpolate_poses(poses, frames_a_leg * (len(keyframes) - 1) + 1)
        return self.to_cameras(path, keyframes[0].fov, size)


def bounded(aspect: float) -> float:
    return min(max(aspect, 1 / WIDEST), WIDEST)


class ResolutionController:
    """How large a view may be while the camera moves, by how long the last ones took."""

    def __init__(self, patch_size: int):
        self.patch_size = patch_size
        self.seconds_a_pixel = 0.

    def size(self, whole: tuple[int, int]) -> tuple[int, int]:
        """The largest fraction of the whole size that is rendered in time; else the smallest."""
        sizes = [self.fraction(whole, fraction) for fraction in FRACTIONS]
        return next((size for size in sizes if size[0] * size[1] * self.seconds_a_pixel <= SECONDS_A_VIEW), sizes[-1])

    def fraction(self, whole: tuple[int, int], fraction: float) -> tuple[int, int]:
        height, width = (min(whole_patches(max(round(length * fraction), 1), self.patch_size), length) for length in whole)
        return height, width

    def took(self, size: tuple[int, int], seconds: float) -> None:
        """Half of what is known is of the last view, so that one slow view does not blur the next ten."""
        measured = seconds / (size[0] * size[1])
        self.seconds_a_pixel = measured if self.seconds_a_pixel == 0 else (self.seconds_a_pixel + measured) / 2
