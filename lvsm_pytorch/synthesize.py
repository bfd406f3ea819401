"""From photos and cameras to views, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from lvsm_pytorch.cameras import Cameras, move_poses, normalize_poses, plucker_rays
from lvsm_pytorch.checks import check_floating, check_shape, fail
from lvsm_pytorch.data.images import resize_and_crop
from lvsm_pytorch.lvsm import LVSM


@torch.no_grad()
def synthesize(
    model: LVSM,
    images: Sequence[Tensor] | Tensor,
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
    """What the target cameras see of the scene on the photos.

    model: in either mode; it paints in eval mode, on its own device, and is left as it was.
    images: the v photos, each (c h w) in [0, 1] and of any size.
    cameras: of the photos: camera_to_world (v 4 4), OpenCV axes, in any world; intrinsics (v 3 3), in pixels of each photo as it is.
    target_cameras: camera_to_world (t 4 4) in the same world and intrinsics (t 3 3) in pixels of `size`; or one camera, (4 4) and (3 3).
    size: (height, width) of the views in pixels, up to the model's `max_image_size`; it need be no multiple of `patch_size`.
    input_size: (height, width) that photos are resized and cropped to, in the middle, their intrinsics with them. Left out, it is the
        size that the model was trained for, or else its `max_image_size` squared.
    pose_frame: 'inputs' moves the world into the mean camera of the photos, 'given' takes it as it is. Left out, it is as the model was
        trained: a model of one scene remembers where that lies in the world of its dataset, and cameras are those of this world.
    unit: with 'inputs', the length of the world that becomes 1. Left out, it is the model's, if it was trained with one for all scenes, as
        with the built-in ones, or else taken from the photos' cameras (`normalize_poses`).
    chunk_size: so many views at a time, which bounds the memory.
    progress: show a bar (needs tqdm, of the extra `train`).

    Returns (t c h w), or (c h w) for one camera, in [0, 1], on the device of the photos.
    Errors: ValueError for images, cameras and sizes that don't belong together or don't fit the model.
    """
    # one camera is several of which there is one

    several = target_cameras.camera_to_world.ndim == 3

    if not several:
        check_targets(target_cameras, size, several)
        target_cameras = Cameras(*(t.unsqueeze(0) for t in target_cameras))

    parts = synthesized(model, images, cameras, target_cameras, size, input_size = input_size, pose_frame = pose_frame, unit = unit, chunk_size = chunk_size)
    num_views = len(target_cameras.camera_to_world)
    views = torch.empty(0)

    for start, part in zip(with_bar(range(0, num_views, max(chunk_size, 1)), progress), parts, strict = True):
        views = part.new_empty(num_views, *part.shape[1:]) if start == 0 else views
        views[start:start + len(part)] = part

    return views if several else views[0]


@torch.no_grad()
def synthesized(
    model: LVSM,
    images: Sequence[Tensor] | Tensor,
    cameras: Cameras,
    target_cameras: Cameras,
    size: tuple[int, int],
    *,
    input_size: tuple[int, int] | None = None,
    pose_frame: Literal['inputs', 'given'] | None = None,
    unit: float | None = None,
    chunk_size: int = 4,
) -> Iterator[Tensor]:
    """As `synthesize`, of several cameras, a chunk (n c h w) at a time: no more views than these are in memory."""
    check_photos(model, images, cameras)
    input_size = default_size(model) if input_size is None else input_size
    check_sizes(model, input_size = input_size, size = size)

    if chunk_size < 1:
        fail('chunk_size', 'must be at least 1', chunk_size, 'The more at a time, the more memory it takes.')

    check_targets(target_cameras, size, several = True)

    # photos of one size, and the world as the model knows it

    fitted = [resize_and_crop(image, intrinsics, input_size) for image, intrinsics in zip(images, cameras.intrinsics.to(images[0].device), strict = True)]
    photos, intrinsics = (torch.stack(each) for each in zip(*fitted, strict = True))
    poses, target_poses = cameras.camera_to_world.cpu(), target_cameras.camera_to_world.cpu()  # where there is float64

    frame, world = frame_of(model, pose_frame)

    if world is not None:
        poses, target_poses = (move_poses(world, each.double()) for each in (poses, target_poses))
    elif frame == 'inputs':
        unit = model.trained_for.unit if unit is None and model.trained_for is not None else unit
        poses, target_poses = normalize_poses(poses, target_poses, unit = unit)
        assert target_poses is not None

    # the scene is read once, and painted a few views at a time on whole patches, of which those that `size` has are kept

    device = next(model.parameters()).device
    was_training = model.training
    model.eval()

    def on_device(*tensors: Tensor) -> list[Tensor]:
        return [t.to(device, dtype = torch.float32) for t in tensors]

    try:
        poses, intrinsics, photos = on_device(poses, intrinsics, photos)
        target_poses, target_intrinsics = on_device(target_poses, target_cameras.intrinsics)
        rays = plucker_rays(poses, intrinsics, input_size)
        scene = model.encode(photos.unsqueeze(0), rays.unsqueeze(0), cameras = Cameras(poses.unsqueeze(0), intrinsics.unsqueeze(0)))

        height, width = size
        canvas = whole_patches(height, model.patch_size), whole_patches(width, model.patch_size)

        for start in range(0, len(target_poses), chunk_size):
            chunk = slice(start, start + chunk_size)
            of_chunk = Cameras(target_poses[chunk], target_intrinsics[chunk])
            target_rays = plucker_rays(*of_chunk, canvas).unsqueeze(0)
            of_scene = Cameras(*(t.unsqueeze(0) for t in of_chunk))
            yield model.render(scene, target_rays, cameras = of_scene)[0, ..., :height, :width].to(images[0].device)
    finally:
        model.train(was_training)


def check_targets(cameras: Cameras, size: tuple[int, int], several: bool) -> None:
    sizes = check_shape('t 4 4' if several else '4 4', {}, target_camera_to_world = cameras.camera_to_world)
    check_shape('t 3 3' if several else '3 3', sizes, target_intrinsics = cameras.intrinsics)
    check_cameras(images_size = size, target_camera_to_world = cameras.camera_to_world, target_intrinsics = cameras.intrinsics)


def default_size(model: LVSM) -> tuple[int, int]:
    return (model.max_image_size, model.max_image_size) if model.trained_for is None else model.trained_for.image_size


def whole_patches(length: int, patch_size: int) -> int:
    return -(-length // patch_size) * patch_size


def frame_of(model: LVSM, pose_frame: str | None) -> tuple[str, Tensor | None]:
    """The frame, and of a model of one scene the similarity (4 4) that leads into its own."""
    if pose_frame not in ('inputs', 'given', None):
        fail('pose_frame', 'must be inputs or given', repr(pose_frame), 'Left out, it fits the model.')

    if pose_frame is not None:
        return pose_frame, None

    if model.trained_for is None or model.trained_for.pose_frame == 'inputs':
        return 'inputs', None

    if model.trained_for.world is None:
        fail('pose_frame', 'must be said for a model that was trained in a frame that it does not know', f'None, and trained_for {model.trained_for.pose_frame!r}',
             "Move the cameras into that frame and say pose_frame = 'given', or take pose_frame = 'inputs' as it may be.")

    return 'given', torch.tensor(model.trained_for.world, dtype = torch.float64)


def check_photos(model: LVSM, images: Sequence[Tensor] | Tensor, cameras: Cameras) -> None:
    if len(images) == 0:
        fail('images', 'must have at least one photo', 'none', 'Pass the photos that the model may see.')

    for index, image in enumerate(images):
        check_floating(**{f'images[{index}]': image})
        check_shape('c h w', dict(c = model.channels), **{f'images[{index}]': image})

        if image.device != images[0].device:
            fail('images', 'must be on one device', f'{images[0].device} and {image.device}', 'Move them to the same.')

    to_do = 'It needs a camera for each photo.'
    check_shape('v 4 4', dict(v = len(images)), to_do, camera_to_world = cameras.camera_to_world)
    check_shape('v 3 3', dict(v = len(images)), to_do, intrinsics = cameras.intrinsics)
    check_cameras(images_size = tuple(images[0].shape[1:]), camera_to_world = cameras.camera_to_world, intrinsics = cameras.intrinsics)


def check_cameras(images_size: tuple[int, ...], **poses_and_intrinsics: Tensor) -> None:
    check_floating(**poses_and_intrinsics)

    for name, t in poses_and_intrinsics.items():
        if not t.isfinite().all():
            fail(name, 'must be finite', 'inf or nan', 'Take out the view whose camera was not found.')

    (name, intrinsics) = list(poses_and_intrinsics.items())[1]
    centre = intrinsics[..., :2, 2].reshape(-1, 2)

    if min(images_size) > 2 and (centre > 0).all() and (centre <= 1).all():
        fail(name, f'must be in pixels of images of {images_size[0]} × {images_size[1]}', f'a principal point of {tuple(round(x, 3) for x in centre[0].tolist())}',
             'They seem to be fractions of the image: multiply fx and cx by its width, fy and cy by its height.')


def check_sizes(model: LVSM, **sizes: tuple[int, int]) -> None:
    for name, size in sizes.items():
        if len(size) != 2 or not all(isinstance(length, int) and 0 < whole_patches(length, model.patch_size) <= model.max_image_size for length in size):
            fail(name, f'must be (height, width) in pixels, up to max_image_size {model.max_image_size}', size,
                 'No weight depends on max_image_size: LVSM.from_pretrained(folder, max_image_size = ...) takes a larger one.')

    if any(length % model.patch_size != 0 for length in sizes['input_size']):
        fail('input_size', f'must be multiples of patch_size {model.patch_size}', sizes['input_size'], f'For example {tuple(whole_patches(length, model.patch_size) for length in sizes["input_size"])}.')


def with_bar(steps: range, progress: bool):
    if not progress:
        return steps

    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError('progress needs tqdm: pip install "lvsm-pytorch[train]"') from error

    return tqdm(steps, unit = 'chunk', dynamic_ncols = True)
