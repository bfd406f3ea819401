"""A scene to walk around in: encoded photos, and views of any camera, at the resolution that there is time for."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.data import Problems, Scene, cameras_of
from lvsm_pytorch.geometry.cameras import Cameras, move_poses
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.geometry.scene_scale import DepthRange, estimate_depth_range
from lvsm_pytorch.geometry.trajectories import interpolate_poses, looked_at
from lvsm_pytorch.geometry.view_selection import nearest_views, spacings
from lvsm_pytorch.inference.nearest import NearestPhotos, weighted_view
from lvsm_pytorch.inference.pipeline import EncodedPhotos
from lvsm_pytorch.inference.scenes import FittedViews, unit_for
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import num_inputs_of
from lvsm_pytorch.lvsm.views import whole_patches
from lvsm_pytorch.viewer.background import BackgroundCache
from lvsm_pytorch.viewer.fade import InputSet, WeightedSets

# a view that takes longer is rendered smaller while the camera moves

SECONDS_A_VIEW = 0.1
FRACTIONS = (1., 0.75, 0.5, 0.375, 0.25)

MOST_INPUTS = 16

# of large models each encoded set may take gigabytes

MOST_SETS, MOST_PICTURES = 8, 8

# pixels along the longer side of the photo beside the controls

LARGEST_PHOTO = 640

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


class Stage:
    """The shown world is that of the mean camera, with cameras about 1 apart, so that a browser's scene has the same size whatever the photos' unit.

    Args:
        model: In either mode; it is put into eval mode.
        scene: To walk around in.
        size: (height, width) of photos as the model reads them.
        lock: For one view at a time, whoever asks, of whichever scene. Photos are encoded meanwhile.
    """

    def __init__(self, model: LVSM, scene: Scene, size: tuple[int, int], lock: threading.Lock, problems: Problems | None = None):
        self.problems = Problems() if problems is None else problems
        self.model = model.eval()
        self.scene = scene
        self.poses = cameras_of(scene.views).camera_to_world
        self.to_shown = normalize_poses(self.poses).similarity
        self.shown = move_poses(self.to_shown, self.poses).float()
        self.most_inputs = min(MOST_INPUTS, len(scene.views))
        self.size = size
        self.lock = lock
        self.photos = FittedViews(scene, size, self.problems)
        self.nearest_photos = lru_cache(maxsize = None)(self.make_nearest_photos)

        # encoded photos by their numbers, and photos by number, as they are shown beside the controls

        self.sets: BackgroundCache[InputSet, EncodedPhotos] = BackgroundCache(self.encode, MOST_SETS)
        self.pictures: BackgroundCache[int, Tensor] = BackgroundCache(self.picture, MOST_PICTURES)

    def spacing(self) -> float:
        """Of the cameras in the shown world: median distance from one to the nearest other; 1 where there is but one."""
        apart = spacings(self.shown[:, :3, 3]).median()
        return float(apart) if apart.isfinite() and apart > 0 else 1.

    # photos

    def make_nearest_photos(self, count: int, input_attends_target: bool) -> NearestPhotos:
        return NearestPhotos(self.model, self.photos, count, unit = unit_for(self.model, self.scene), input_attends_target = input_attends_target)

    def inputs_for(self, camera: ViewerCamera, count: int, input_attends_target: bool) -> InputSet:
        """The photos nearest to a camera, none of which is read for it.

        Raises:
            BadView: Where none can be read.
        """
        nearest = self.nearest_photos(count, input_attends_target)
        return InputSet(nearest.inputs_for(move_poses(torch.linalg.inv(self.to_shown), camera.camera_to_world.double()), read = False), input_attends_target)

    def encode(self, key: InputSet) -> EncodedPhotos:
        return self.nearest_photos(len(key.inputs), key.input_attends_target).encode(key.inputs)

    def picture(self, number: int) -> Tensor:
        """A photo (3 h w), by its number; black where it can't be read."""
        view = self.scene.views[number]
        found = self.problems.attempt(f'{self.scene.name}/{view.name}', partial(view.thumbnail, LARGEST_PHOTO))
        return torch.zeros(3, 8, 8) if found is None else found[0]

    def nearest(self, camera: ViewerCamera) -> int:
        """Number of the photo whose camera is nearest to a camera."""
        return nearest_views(self.shown, camera.camera_to_world, 1)[0]

    @cached_property
    def fov(self) -> float:
        """Of the photos, vertical, in radians, as they are cut for the model."""
        view = self.scene.views[self.middle_inputs[0]]
        height, width = view.size
        covered = min(height, width * self.size[0] / self.size[1])
        return 2 * math.atan(covered / 2 / float(view.intrinsics[1, 1]))

    @cached_property
    def middle_inputs(self) -> tuple[int, ...]:
        """Those around the photo in the middle of all, which are read."""
        centres = self.poses[:, :3, 3]
        middle = int((centres - centres.mean(dim = 0)).norm(dim = -1).argmin())
        return self.nearest_photos(max(num_inputs_of(self.model), 3), False).inputs_for(self.poses[middle])

    # what the photos look at

    @cached_property
    def depth_range(self) -> DepthRange | None:
        """How far the scene is from the photos in its middle, in units of the shown world."""
        images, cameras = self.photos.of(self.middle_inputs)
        found = estimate_depth_range(torch.stack(images), cameras)
        scale = float(self.to_shown[:3, 0].norm())
        return None if found is None else DepthRange(found.near * scale, found.far * scale)

    def subject_distance(self, camera_to_world: Tensor) -> float:
        """How far ahead of a camera (4 4) of the shown world the subject is: the point that photos look at, if the scene reaches there; else somewhere in the scene."""
        subject = looked_at(self.shown)
        depth = float(((subject - self.shown[:, :3, 3]) * self.shown[:, :3, 2]).sum(dim = -1).median())
        near, far = (depth, depth) if self.depth_range is None else self.depth_range

        if not near <= depth <= far:
            return math.sqrt(near * far)

        return max(float((subject - camera_to_world[:3, 3]) @ camera_to_world[:3, 2]), near / 2)

    # views

    def fov_of_window(self, aspect: float) -> float:
        """As much of the scene as on the photos, at another width by height: vertical, in radians."""
        return 2 * math.atan(math.tan(self.fov / 2) * math.sqrt(self.size[1] / self.size[0] / bounded(aspect)))

    def whole_size(self, camera: ViewerCamera) -> tuple[int, int]:
        """(height, width) of a view as sharp as the model renders: of as many pixels as it was trained with, as wide by high as the window."""
        side = math.sqrt(self.size[0] * self.size[1])
        return round(side / math.sqrt(bounded(camera.aspect))), round(side * math.sqrt(bounded(camera.aspect)))

    def render(self, camera: ViewerCamera, size: tuple[int, int], sets: Sequence[WeightedSets]) -> Tensor:
        """(3 h w) in [0, 1], from encoded photos.

        Args:
            size: (height, width) in pixels.
        """
        cameras = self.to_cameras(camera.camera_to_world.unsqueeze(0), camera.fov, size)

        with self.lock:
            return weighted_view([each.encoded for each in sets], [each.weight for each in sets], cameras[0], size)

    def film(self, cameras: Cameras, size: tuple[int, int], count: int, input_attends_target: bool) -> Iterator[Tensor]:
        """As `NearestPhotos.render`, with sets of its own. Nobody waits while photos are encoded."""
        nearest = self.make_nearest_photos(count, input_attends_target)

        for number, (inputs, weights) in enumerate(nearest.weighted_inputs(cameras.camera_to_world)):
            encoded = [nearest.encoded(each) for each in inputs]

            with self.lock:
                view = weighted_view(encoded, weights, cameras[number], size)

            yield view

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

    def size(self, whole: tuple[int, int], sets: int = 1) -> tuple[int, int]:
        """The largest fraction of the whole size that is rendered in time from so many sets of photos; else the smallest."""
        sizes = [self.fraction(whole, fraction) for fraction in FRACTIONS]
        return next((size for size in sizes if size[0] * size[1] * self.seconds_a_pixel * sets <= SECONDS_A_VIEW), sizes[-1])

    def fraction(self, whole: tuple[int, int], fraction: float) -> tuple[int, int]:
        height, width = (min(whole_patches(max(round(length * fraction), 1), self.patch_size), length) for length in whole)
        return height, width

    def took(self, size: tuple[int, int], seconds: float, sets: int = 1) -> None:
        """Half of what is known is of the last view, so that one slow view does not blur the next ten."""
        measured = seconds / (size[0] * size[1]) / sets
        self.seconds_a_pixel = measured if self.seconds_a_pixel == 0 else (self.seconds_a_pixel + measured) / 2
