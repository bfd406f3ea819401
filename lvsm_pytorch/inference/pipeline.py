"""The inference pipeline: novel views from posed photos, in one call."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.checks import check_floating, check_shape, values_are_free
from lvsm_pytorch.data.images import in_unit, resize_and_crop
from lvsm_pytorch.data.lazy_images import ImageFile
from lvsm_pytorch.errors import fail
from lvsm_pytorch.execution import in_eval_mode
from lvsm_pytorch.geometry.cameras import Cameras, crop_intrinsics
from lvsm_pytorch.geometry.normalization import normalize_poses, unit_of
from lvsm_pytorch.geometry.rays import plucker_rays
from lvsm_pytorch.geometry.scene_scale import scene_scale
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size
from lvsm_pytorch.lvsm.views import chunks, whole_patches


@torch.no_grad()
def synthesize(
    model: LVSM,
    images: Sequence[Tensor | str | Path] | Tensor,
    cameras: Cameras,
    target_cameras: Cameras,
    size: tuple[int, int],
    *,
    input_size: tuple[int, int] | None = None,
    pose_frame: Literal['inputs', 'given'] | None = None,
    unit: float | None = None,
    chunk_size: int = 4,
    progress: bool = False,
) -> Tensor:
    """Renders the views of target cameras from photos.

    Args:
        model: Model in either mode. It renders in eval mode on its own device, and its mode is restored afterwards.
        images: The v photos, each (c h w) in [0, 1] and of any size; or paths of image files, which are downscaled while they are read.
        cameras: Cameras of the photos: camera_to_world (v 4 4), OpenCV axes, in any world; intrinsics (v 3 3) in pixels of each photo at its original size.
        target_cameras: camera_to_world (t 4 4) in the same world and intrinsics (t 3 3) in pixels of `size`; or one camera, (4 4) and (3 3).
        size: (height, width) of the views in pixels, which need not be multiples of `patch_size`. A size above `max_image_size` gives a warning.
        input_size: (height, width) to which photos are resized and centre-cropped, with their intrinsics. By default the size that the model was trained for, or if that is unknown,
            a square of `max_image_size`.
        pose_frame: 'inputs' moves the origin of the world to the mean camera of the photos, 'given' keeps the world. By default as in training: a model of one scene keeps the world
            of its dataset, and cameras are in that world.
        unit: With 'inputs', the length in the world that becomes 1. By default as in training (`TrainedFor`): from the estimated distance of the scene in the photos
            (`estimate_depth_range`), the same for all scenes, or from the cameras of the photos (`normalize_poses`).
        chunk_size: Number of views to render at once, which bounds the memory.
        progress: Show a progress bar (needs tqdm, of the extra `train`).

    Returns:
        Views (t c h w), or (c h w) for one camera, in [0, 1], on the device of the photos.

    Raises:
        ValueError: If images, cameras and sizes don't belong together or don't fit the model.
    """
    # one camera becomes a batch of one

    several = target_cameras.camera_to_world.ndim == 3

    if not several:
        check_target_cameras(target_cameras, size, several)
        target_cameras = target_cameras[None]

    check_sizes(model, size = size)
    scene = encode_photos(model, images, cameras, input_size = input_size, pose_frame = pose_frame, unit = unit)
    views = torch.empty(len(target_cameras), model.channels, *size, device = scene.device)
    parts = scene.render(target_cameras, size, chunk_size = chunk_size)

    for some, part in zip(with_bar(list(chunks(len(target_cameras), max(chunk_size, 1))), progress), parts, strict = True):
        views[some] = part

    return views if several else views[0]


class EncodedPhotos(NamedTuple):
    """Photos encoded by a model, from which views of any camera are rendered.

    Attributes:
        model: Model that encoded the photos and renders the views.
        scene: The encoded photos.
        world: Similarity (4 4), float64, from the world of the photos' cameras to that of the rays.
        device: Device of the photos, on which views are returned.
    """
    model: LVSM
    scene: EncodedScene
    world: Tensor
    device: torch.device

    @torch.no_grad()
    def render(self, cameras: Cameras, size: tuple[int, int], *, chunk_size: int = 4) -> Iterator[Tensor]:
        """Yields the views of cameras (t ...) in chunks (n c h w) in [0, 1], of which one is in memory at a time.

        Args:
            cameras: Target cameras as in `synthesize`.
            size: (height, width) in pixels.
            chunk_size: Maximum number n of views in a chunk.

        Raises:
            ValueError: As `synthesize`.
        """
        check_sizes(self.model, size = size)

        if chunk_size < 1:
            fail('chunk_size', 'must be at least 1', chunk_size, 'It is the number of views to render at once.')

        check_target_cameras(cameras, size, several = True)
        device = next(self.model.parameters()).device
        cameras = cameras.to('cpu', torch.float64).transform(self.world).to(device, torch.float32)    # a CPU has float64

        # render on a larger canvas, and crop it to `size`

        height, width = size
        canvas = canvas_for(self.model, size)
        top, left = ((longer - shorter) // 2 for longer, shorter in zip(canvas, size, strict = True))
        cameras = Cameras(cameras.camera_to_world, crop_intrinsics(cameras.intrinsics, -top, -left))[None]

        for some in chunks(cameras.camera_to_world.shape[1], chunk_size):
            chunk = cameras[:, some]

            with in_eval_mode(self.model):
                views = self.model.render(self.scene, plucker_rays(*chunk, image_size = canvas), cameras = chunk)

            yield views[0, ..., top:top + height, left:left + width].to(self.device)


@torch.no_grad()
def encode_photos(
    model: LVSM,
    images: Sequence[Tensor | str | Path] | Tensor,
    cameras: Cameras,
    *,
    input_size: tuple[int, int] | None = None,
    pose_frame: Literal['inputs', 'given'] | None = None,
    unit: float | None = None,
    input_attends_target: bool | None = None,
) -> EncodedPhotos:
    """Encodes photos once, to render any number of views. Arguments and errors are those of `synthesize` and of `LVSM.encode`."""
    check_photos(model, images, cameras)
    device_of_photos = next((image.device for image in images if isinstance(image, Tensor)), torch.device('cpu'))
    input_size = default_size(model) if input_size is None else input_size
    check_sizes(model, input_size = input_size)

    if any(length % model.patch_size != 0 for length in input_size):
        fail('input_size', f'must be multiples of patch_size {model.patch_size}', input_size, f'For example {tuple(whole_patches(length, model.patch_size) for length in input_size)}.')

    # resize photos to one size, and move cameras into the frame of training

    fitted = [fit(image, intrinsics, input_size) for image, intrinsics in zip(images, cameras.intrinsics.to(device_of_photos), strict = True)]
    photos, intrinsics = (torch.stack(each) for each in zip(*fitted, strict = True))
    cameras = Cameras(cameras.camera_to_world.cpu().double(), intrinsics)
    frame, world = frame_of(model, pose_frame)

    goes_by_depth = model.trained_for is not None and model.trained_for.scale == 'depth'
    scale = scene_scale(photos, cameras) if goes_by_depth or model.plane_sweep.knows_distances else None

    if world is None:
        if unit is None and model.trained_for is not None:
            unit = scale.unit if goes_by_depth and scale is not None else model.trained_for.unit

        world = normalize_poses(cameras.camera_to_world, unit = unit).similarity if frame == 'inputs' else torch.eye(4, dtype = torch.float64)

    device = next(model.parameters()).device
    depth_range = None if scale is None else scale.depth_range(unit_of(world))[None].to(device)
    cameras, photos = cameras.transform(world).to(device, torch.float32)[None], photos.to(device, torch.float32)[None]

    with in_eval_mode(model):
        scene = model.encode(photos, plucker_rays(*cameras, image_size = input_size), cameras = cameras, depth_range = depth_range, input_attends_target = input_attends_target)

    return EncodedPhotos(model, scene, world, device_of_photos)


def fit(image: Tensor | str | Path, intrinsics: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resizes and crops a photo (c h w) with its intrinsics (3 3) to `size` (height, width)."""
    if isinstance(image, Tensor):
        return resize_and_crop(image, intrinsics, size)

    reduced, intrinsics = ImageFile(Path(image).expanduser()).reduced(intrinsics, size)
    return resize_and_crop(in_unit(reduced), intrinsics, size)    # then like a photo in a tensor


def check_target_cameras(cameras: Cameras, size: tuple[int, int], several: bool) -> None:
    sizes = check_shape('t 4 4' if several else '4 4', {}, target_camera_to_world = cameras.camera_to_world)
    check_shape('t 3 3' if several else '3 3', sizes, target_intrinsics = cameras.intrinsics)
    check_camera_values(images_size = size, target_camera_to_world = cameras.camera_to_world, target_intrinsics = cameras.intrinsics)


def canvas_for(model: LVSM, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) in whole patches that cover `size`.

    With a camera encoding in attention, the canvas has the aspect ratio of training: the encoding normalises intrinsics by the shape of the image, and
    views of another aspect ratio are half a decibel worse.
    """
    covering = size

    if model.camera_encoding != 'plucker' and model.trained_for is not None:
        trained = model.trained_for.image_size
        scale = max(length / trained_length for length, trained_length in zip(size, trained, strict = True))
        covering = tuple(max(length, math.ceil(trained_length * scale - 1e-6)) for length, trained_length in zip(size, trained, strict = True))

    height, width = (whole_patches(length, model.patch_size) for length in covering)
    return height, width


def frame_of(model: LVSM, pose_frame: str | None) -> tuple[str, Tensor | None]:
    """Returns the pose frame, and for a model of one scene the similarity (4 4) into its frame of training; otherwise None."""
    if pose_frame not in ('inputs', 'given', None):
        fail('pose_frame', 'must be inputs or given', repr(pose_frame), 'Left out, it fits the model.')

    if pose_frame is not None:
        return pose_frame, None

    if model.trained_for is None or model.trained_for.pose_frame == 'inputs':
        return 'inputs', None

    if model.trained_for.world is None:
        fail('pose_frame', 'must be given for a model whose frame of training is unknown', f'None, and trained_for {model.trained_for.pose_frame!r}',
             "Move the cameras into that frame and pass pose_frame = 'given', or pass pose_frame = 'inputs'.")

    return 'given', torch.tensor(model.trained_for.world, dtype = torch.float64)


def check_photos(model: LVSM, images: Sequence[Tensor | str | Path] | Tensor, cameras: Cameras) -> None:
    if len(images) == 0:
        fail('images', 'must have at least one photo', 'none', 'Pass the input photos.')

    tensors = {f'images[{index}]': image for index, image in enumerate(images) if not isinstance(image, str | Path)}
    check_floating(**tensors)

    for name, image in tensors.items():
        check_shape('c h w', dict(c = model.channels), **{name: image})
        warn_of_range(name, image)

    devices = {image.device for image in tensors.values()}

    if len(devices) > 1:
        fail('images', 'must be on one device', ' and '.join(sorted(map(str, devices))), 'Move them to the same.')

    to_do = 'It needs a camera for each photo.'
    check_shape('v 4 4', dict(v = len(images)), to_do, camera_to_world = cameras.camera_to_world)
    check_shape('v 3 3', dict(v = len(images)), to_do, intrinsics = cameras.intrinsics)
    sizes = [tuple(image.shape[1:]) if isinstance(image, Tensor) else ImageFile(Path(image).expanduser()).size for image in images]
    check_camera_values(images_size = sizes[0], camera_to_world = cameras.camera_to_world, intrinsics = cameras.intrinsics)
    warn_of_other_sizes(cameras.intrinsics, sizes)
    warn_of_lost_digits(cameras.camera_to_world)


def warn_of_range(name: str, image: Tensor) -> None:
    """Warns of images outside of [0, 1] by more than the overshoot of resampling filters."""
    if values_are_free(image) and image.numel() > 0 and (image.min() < -0.5 or image.max() > 1.5):
        warnings.warn(f'{name} has values from {float(image.min()):.4g} to {float(image.max()):.4g}, where images are in [0, 1]: divide bytes by 255', stacklevel = 4)


def warn_of_other_sizes(intrinsics: Tensor, sizes: Sequence[tuple[int, ...]]) -> None:
    """Warns of intrinsics that seem to refer to another image size: all principal points are outside of the photos, or at a half, a quarter or an eighth of the centre."""
    if not values_are_free(intrinsics):
        return

    across = intrinsics[:, :2, 2] / intrinsics.new_tensor([(width, height) for height, width in sizes])
    is_larger = ((across >= 1) | (across <= 0)).any(dim = 1).all()
    is_smaller = any(((across * 2 * factor - 1).abs() < 0.04).all() for factor in (2, 4, 8))

    if is_larger or is_smaller:
        warnings.warn(f'intrinsics seem to be those of another size of the photos: the first has its principal point at {tuple(round(x, 1) for x in intrinsics[0, :2, 2].tolist())} '
                      f'of {sizes[0][1]} × {sizes[0][0]} pixels. They are in pixels of the photos as they are passed', stacklevel = 4)


def warn_of_lost_digits(camera_to_world: Tensor) -> None:
    """Warns of cameras below float64 so far from the origin that rounding moves them by more than a thousandth of their extent."""
    centres = camera_to_world[:, :3, 3]

    if camera_to_world.dtype == torch.float64 or not values_are_free(centres):
        return

    extent = (centres - centres.mean(dim = 0)).abs().max()

    if 1e-3 * extent < torch.finfo(torch.float32).eps * centres.abs().max() and extent > 0:
        warnings.warn(f'camera_to_world is {camera_to_world.dtype}, which rounds cameras at {float(centres.abs().max()):.3g} from the origin of their world. Pass float64', stacklevel = 4)


def check_camera_values(images_size: tuple[int, ...], **poses_and_intrinsics: Tensor) -> None:
    check_floating(**poses_and_intrinsics)

    for name, t in poses_and_intrinsics.items():
        if not t.isfinite().all():
            fail(name, 'must be finite', 'inf or nan', 'Take out the view whose camera was not found.')

    (name, intrinsics) = list(poses_and_intrinsics.items())[1]
    centre = intrinsics[..., :2, 2].reshape(-1, 2)

    if min(images_size) > 2 and len(centre) > 0 and (centre > 0).all() and (centre <= 1).all():
        fail(name, f'must be in pixels of images of {images_size[0]} × {images_size[1]}', f'a principal point of {tuple(round(x, 3) for x in centre[0].tolist())}',
             'They seem to be fractions of the image: multiply fx and cx by its width, fy and cy by its height.')


def check_sizes(model: LVSM, **sizes: tuple[int, int]) -> None:
    for name, size in sizes.items():
        if len(size) != 2 or not all(isinstance(length, int) and length > 0 for length in size):
            fail(name, 'must be (height, width) in pixels', size, f'For example {default_size(model)}.')


def with_bar(steps: list[slice], progress: bool):
    if not progress:
        return steps

    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError('progress needs tqdm: pip install "lvsm-pytorch[train]"') from error

    return tqdm(steps, unit = 'chunk', dynamic_ncols = True)
