"""A scene in the viewer: its encoded photos, and views of any camera at an adaptive resolution."""

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

# while the camera moves, views that would take longer are rendered at a lower resolution

SECONDS_PER_VIEW = 0.1
FRACTIONS = (1., 0.75, 0.5, 0.375, 0.25)

MAX_INPUTS = 16

# encoded sets of large models take gigabytes each

MAX_SETS, MAX_PICTURES = 8, 8

# longer side, in pixels, of the photo in the side panel

MAX_PHOTO = 640

# largest aspect ratio of a view, or its inverse; views are stretched in longer windows

MAX_ASPECT = 3


class ViewerCamera(NamedTuple):
    """Camera of a client.

    Attributes:
        camera_to_world: (4 4), OpenCV axes, in the viewer's world.
        fov: Vertical, in radians.
        aspect: Width / height.
    """
    camera_to_world: Tensor
    fov: float
    aspect: float


class Stage:
    """A scene with its encoded photos.

    The viewer's world is that of the mean camera, with cameras about 1 apart, so that the browser's scene has the same size whatever the photos' unit of length.

    Args:
        model: The model, in either attention mode. It is put into eval mode.
        scene: The scene.
        size: (height, width) that photos are resized and cropped to.
        lock: Held while a view is rendered, so that one is rendered at a time over all scenes. Photos are encoded in parallel.
    """

    def __init__(self, model: LVSM, scene: Scene, size: tuple[int, int], lock: threading.Lock, problems: Problems | None = None):
        self.problems = Problems() if problems is None else problems
        self.model = model.eval()
        self.scene = scene
        self.poses = cameras_of(scene.views).camera_to_world
        self.viewer_from_world = normalize_poses(self.poses).similarity
        self.shown = move_poses(self.viewer_from_world, self.poses).float()
        self.max_inputs = min(MAX_INPUTS, len(scene.views))
        self.size = size
        self.lock = lock
        self.photos = FittedViews(scene, size, self.problems)
        self.nearest_photos = lru_cache(maxsize = None)(self.make_nearest_photos)

        # encoded input sets, and photos for the side panel

        self.sets: BackgroundCache[InputSet, EncodedPhotos] = BackgroundCache(self.encode, MAX_SETS)
        self.pictures: BackgroundCache[int, Tensor] = BackgroundCache(self.picture, MAX_PICTURES)

    def spacing(self) -> float:
        """Median distance of the cameras to their nearest neighbour, in the viewer's world; 1 for a single camera."""
        apart = spacings(self.shown[:, :3, 3]).median()
        return float(apart) if apart.isfinite() and apart > 0 else 1.

    # photos

    def make_nearest_photos(self, count: int, input_attends_target: bool) -> NearestPhotos:
        return NearestPhotos(self.model, self.photos, count, unit = unit_for(self.model, self.scene), input_attends_target = input_attends_target)

    def inputs_for(self, camera: ViewerCamera, count: int, input_attends_target: bool) -> InputSet:
        """Numbers of the photos nearest to a camera. No photo is read.

        Raises:
            BadView: If no photo can be read.
        """
        nearest = self.nearest_photos(count, input_attends_target)
        return InputSet(nearest.inputs_for(move_poses(torch.linalg.inv(self.viewer_from_world), camera.camera_to_world.double()), read = False), input_attends_target)

    def encode(self, key: InputSet) -> EncodedPhotos:
        return self.nearest_photos(len(key.inputs), key.input_attends_target).encode(key.inputs)

    def picture(self, number: int) -> Tensor:
        """A photo (3 h w) by its number; black if it can't be read."""
        view = self.scene.views[number]
        found = self.problems.attempt(f'{self.scene.name}/{view.name}', partial(view.thumbnail, MAX_PHOTO))
        return torch.zeros(3, 8, 8) if found is None else found[0]

    def nearest(self, camera: ViewerCamera) -> int:
        """Number of the photo whose camera is nearest to a camera."""
        return nearest_views(self.shown, camera.camera_to_world, 1)[0]

    @cached_property
    def fov(self) -> float:
        """Vertical field of view of the photos in radians, after cropping."""
        view = self.scene.views[self.middle_inputs[0]]
        height, width = view.size
        covered = min(height, width * self.size[0] / self.size[1])
        return 2 * math.atan(covered / 2 / float(view.intrinsics[1, 1]))

    @cached_property
    def middle_inputs(self) -> tuple[int, ...]:
        """Input photos around the photo in the middle of all. They are read, so that unreadable ones are left out."""
        centres = self.poses[:, :3, 3]
        middle = int((centres - centres.mean(dim = 0)).norm(dim = -1).argmin())
        return self.nearest_photos(max(num_inputs_of(self.model), 3), False).inputs_for(self.poses[middle])

    # the subject

    @cached_property
    def depth_range(self) -> DepthRange | None:
        """Depth range of the scene as seen from the middle photos, in units of the viewer's world."""
        images, cameras = self.photos.of(self.middle_inputs)
        found = estimate_depth_range(torch.stack(images), cameras)
        scale = float(self.viewer_from_world[:3, 0].norm())
        return None if found is None else DepthRange(found.near * scale, found.far * scale)

    def subject_distance(self, camera_to_world: Tensor) -> float:
        """Depth of the subject ahead of a camera (4 4) in the viewer's world: of the point that the photos look at if it is within the depth range, else the range's geometric mean."""
        subject = looked_at(self.shown)
        depth = float(((subject - self.shown[:, :3, 3]) * self.shown[:, :3, 2]).sum(dim = -1).median())
        near, far = (depth, depth) if self.depth_range is None else self.depth_range

        if not near <= depth <= far:
            return math.sqrt(near * far)

        return max(float((subject - camera_to_world[:3, 3]) @ camera_to_world[:3, 2]), near / 2)

    # views

    def fov_of_window(self, aspect: float) -> float:
        """Vertical field of view in radians that shows as much of the scene as the photos do, at another aspect ratio."""
        return 2 * math.atan(math.tan(self.fov / 2) * math.sqrt(self.size[1] / self.size[0] / bounded(aspect)))

    def whole_size(self, camera: ViewerCamera) -> tuple[int, int]:
        """(height, width) of a full-resolution view: as many pixels as the model was trained with, at the window's aspect ratio."""
        side = math.sqrt(self.size[0] * self.size[1])
        return round(side / math.sqrt(bounded(camera.aspect))), round(side * math.sqrt(bounded(camera.aspect)))

    def render(self, camera: ViewerCamera, size: tuple[int, int], sets: Sequence[WeightedSets]) -> Tensor:
        """Renders a view (3 h w) in [0, 1] from encoded photos.

        Args:
            size: (height, width) in pixels.
        """
        cameras = self.to_cameras(camera.camera_to_world.unsqueeze(0), camera.fov, size)

        with self.lock:
            return weighted_view([each.encoded for each in sets], [each.weight for each in sets], cameras[0], size)

    def film(self, cameras: Cameras, size: tuple[int, int], count: int, input_attends_target: bool) -> Iterator[Tensor]:
        """As `NearestPhotos.render`, with its own encoded sets. The lock is free while photos are encoded."""
        nearest = self.make_nearest_photos(count, input_attends_target)

        for number, (inputs, weights) in enumerate(nearest.weighted_inputs(cameras.camera_to_world)):
            encoded = [nearest.encoded(each) for each in inputs]

            with self.lock:
                view = weighted_view(encoded, weights, cameras[number], size)

            yield view

    def to_cameras(self, shown: Tensor, fov: float, size: tuple[int, int]) -> Cameras:
        """Cameras of keyframes (n 4 4), in the photos' world."""
        height, width = size
        focal = height / 2 / math.tan(fov / 2)
        intrinsics = torch.tensor([[focal, 0., width / 2], [0., focal, height / 2], [0., 0., 1.]])
        poses = move_poses(torch.linalg.inv(self.viewer_from_world), shown.double())
        return Cameras(poses, intrinsics.expand(len(poses), 3, 3))

    def path(self, keyframes: list[ViewerCamera], frames_per_segment: int, size: tuple[int, int]) -> Cameras:
        """Camera path through keyframes, in the photos' world."""
        poses = torch.stack([camera.camera_to_world for camera in keyframes])
        path = poses if len(keyframes) == 1 else interpolate_poses(poses, frames_per_segment * (len(keyframes) - 1) + 1)
        return self.to_cameras(path, keyframes[0].fov, size)


def bounded(aspect: float) -> float:
    return min(max(aspect, 1 / MAX_ASPECT), MAX_ASPECT)


class ResolutionController:
    """Chooses the resolution of views while the camera moves, by the time that the last views took."""

    def __init__(self, patch_size: int):
        self.patch_size = patch_size
        self.seconds_per_pixel = 0.

    def size(self, whole: tuple[int, int], sets: int = 1) -> tuple[int, int]:
        """The largest resolution that is rendered within SECONDS_PER_VIEW from this number of input sets; the smallest if none is."""
        sizes = [self.fraction(whole, fraction) for fraction in FRACTIONS]
        return next((size for size in sizes if size[0] * size[1] * self.seconds_per_pixel * sets <= SECONDS_PER_VIEW), sizes[-1])

    def fraction(self, whole: tuple[int, int], fraction: float) -> tuple[int, int]:
        height, width = (min(whole_patches(max(round(length * fraction), 1), self.patch_size), length) for length in whole)
        return height, width

    def took(self, size: tuple[int, int], seconds: float, sets: int = 1) -> None:
        """Updates the estimate by a moving average that gives the last view a weight of 1/2, so that one slow view does not lower the resolution for long."""
        measured = seconds / (size[0] * size[1]) / sets
        self.seconds_per_pixel = measured if self.seconds_per_pixel == 0 else (self.seconds_per_pixel + measured) / 2
