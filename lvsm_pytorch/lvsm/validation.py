"""Checks of the arguments of public methods, run once for each call. They return `Views`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lvsm_pytorch.checks import check_floating, check_shape, make_valid_mask, values_are_free
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.lvsm.conditioning import CAMERA_ENCODINGS, PLANE_SWEEPS
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.losses import PerceptualLoss
from lvsm_pytorch.lvsm.views import Views, mask_out, mask_out_cameras

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.model import LVSM

# tolerance between rays and cameras: about a degree, and a fiftieth of the distance to the origin

RAY_TOLERANCE = 0.02


def validated(
    model: LVSM, input_images: Tensor, input_rays: Tensor, target_rays: Tensor, target_images: Tensor | None, num_input_images: Tensor | None, cameras: Cameras | None,
    depth_range: Tensor | None = None, target_distances: Tensor | None = None,
) -> tuple[Views, Views]:
    """Checks the arguments of `LVSM.forward`, and returns inputs and targets (b t ...)."""
    sizes = check_images_and_rays(model, input_images = input_images, input_rays = input_rays)
    valid_mask = on_device(make_valid_mask(sizes, num_input_images = num_input_images), input_images.device)
    several = check_targets(target_rays, target_images, sizes)
    target_rays = target_rays if several else target_rays.unsqueeze(1)

    check_cameras(model, cameras, sizes['b'], sizes['v'] + target_rays.shape[1])
    input_cameras, target_cameras = (None, None) if cameras is None else (cameras[:, :sizes['v']], cameras[:, sizes['v']:])
    depth_range = checked_depth_range(depth_range, sizes['b'])
    check_distances(model, target_distances, target_rays, target_images)
    inputs, targets = without_padding(Views(input_rays, input_images, input_cameras, valid_mask, depth_range)), Views(target_rays, cameras = target_cameras)
    warn_of_other_rays(model, inputs, targets)
    return inputs, targets


def validated_inputs(
    model: LVSM, images: Tensor, rays: Tensor, num_images: Tensor | None, cameras: Cameras | None, depth_range: Tensor | None = None, *,
    ray_mask: Tensor | None = None, min_views: int = 1,
) -> Views:
    """Checks the arguments of `LVSM.encode`, `LVSM.tokens` and `MAE`, and returns the views."""
    sizes = check_images_and_rays(model, min_views = min_views, images = images, rays = rays)
    check_cameras(model, cameras, sizes['b'], sizes['v'])
    valid_mask = on_device(make_valid_mask(sizes, at_least = min_views, num_images = num_images), images.device)
    inputs = without_padding(Views(rays, images, cameras, valid_mask, checked_depth_range(depth_range, sizes['b'])))
    inputs = inputs if ray_mask is None else inputs.without_rays(on_device(ray_mask, images.device))
    warn_of_other_rays(model, inputs)
    return inputs


def validated_targets(model: LVSM, scene: EncodedScene, target_rays: Tensor, cameras: Cameras | None) -> Views:
    """Checks the arguments of `LVSM.render`, and returns the targets (b t ...)."""
    check_scene(model, scene)
    check_floating(target_rays = target_rays)
    several = target_rays.ndim == 5
    sizes = check_shape('b t 6 h w' if several else 'b 6 h w', dict(b = scene.num_scenes), target_rays = target_rays)
    check_size(model, 'target_rays', sizes)

    if not several:
        target_rays = target_rays.unsqueeze(1)
        cameras = None if cameras is None else cameras[:, None]

    check_cameras(model, cameras, scene.num_scenes, target_rays.shape[1])
    targets = Views(target_rays, cameras = cameras)
    warn_of_other_rays(model, targets)
    return targets


def on_device(mask: Tensor | None, device: torch.device) -> Any:
    """Moves a mask to a device. Copies to a GPU are asynchronous; a copy to the CPU is not, since it could be read before it is complete."""
    return None if mask is None else mask.to(device, non_blocking = device.type != 'cpu')


def without_padding(views: Views) -> Views:
    """Masks out the padding of views."""
    if views.valid_mask is None:
        return views

    padding = ~views.valid_mask
    images = None if views.images is None else mask_out(padding, views.images)
    return views._replace(images = images, rays = mask_out(padding, views.rays), cameras = mask_out_cameras(padding, views.cameras))


def check_images_and_rays(model: LVSM, *, min_views: int = 1, **images_and_rays: Tensor) -> dict[str, int]:
    """Checks images and rays, and returns their sizes b, v, h, w.

    Raises:
        ValueError: If shapes or types are wrong, or the model does not support the sizes.
    """
    (images_name, images), (rays_name, rays) = images_and_rays.items()
    check_floating(**images_and_rays)

    sizes = check_shape('b v c h w', dict(c = model.channels), **{images_name: images})
    check_shape('b v 6 h w', sizes, **{rays_name: rays})

    if sizes['v'] < min_views:
        count = 'one view' if min_views == 1 else 'two views, of which one is masked'
        fail(images_name, f'must have at least {count}', sizes['v'] or 'none', 'Pass more views of each scene.')

    check_size(model, images_name, sizes)
    warn_far_from_training(model, sizes)
    return sizes


def check_size(model: LVSM, name: str, sizes: dict[str, int]) -> None:
    """Checks that height and width are multiples of the patch size."""
    height, width = sizes['h'], sizes['w']

    if min(height, width) == 0 or height % model.patch_size != 0 or width % model.patch_size != 0:
        fail(name, f'must have height and width that are multiples of patch_size {model.patch_size}', f'{height} × {width}', 'Resize or crop the images, and make their rays for the new size.')

    if height * width > model.max_image_size ** 2:
        warn_once(model, f'{name} of {height} × {width} are more pixels than those of max_image_size {model.max_image_size}, for which the model may not be trained')


def check_cameras(model: LVSM, cameras: Cameras | None, batch: int, num_views: int) -> None:
    if cameras is None and model.needs_cameras:
        which = f'camera_encoding = {model.camera_encoding!r}' if model.num_depth_planes == 0 else f'num_depth_planes = {model.num_depth_planes}'
        fail('cameras', f'must be given to a model with {which}', None, 'Pass Cameras(camera_to_world, intrinsics) of the views, as the rays were made with.')

    if cameras is not None:
        check_shape('b views 4 4', dict(b = batch, views = num_views), camera_to_world = cameras.camera_to_world)
        check_shape('b views 3 3', dict(b = batch, views = num_views), intrinsics = cameras.intrinsics)


def check_targets(target_rays: Tensor, target_images: Tensor | None, sizes: dict[str, int]) -> bool:
    """Checks targets, and returns whether they have a t axis.

    Args:
        target_rays: (b 6 h w) or (b t 6 h w).
        target_images: (b c h w) or (b t c h w), or None.
        sizes: Sizes of the inputs.
    """
    check_floating(target_rays = target_rays)
    several = target_rays.ndim == 5
    axis = 't ' if several else ''
    to_do = 'Targets are one view (b 6 h w) or several (b t 6 h w), of the batch and the size of the inputs.'
    sizes = check_shape(f'b {axis}6 h w', {name: sizes[name] for name in ('b', 'c', 'h', 'w')}, to_do, target_rays = target_rays)

    if several and sizes['t'] == 0:
        fail('target_rays', 'must have at least one view', 'none', to_do)

    if target_images is not None:
        check_floating(target_images = target_images)
        to_do = 'It needs an image for every target view, as many as target_rays has, channels first.'
        check_shape(f'b {axis}c h w', sizes, to_do, target_images = target_images)

    return several


def checked_depth_range(depth_range: Tensor | None, batch: int) -> Tensor | None:
    """Checks a depth range (b 2): 0 < near < far."""
    if depth_range is None:
        return None

    check_floating(depth_range = depth_range)
    check_shape('b 2', dict(b = batch), depth_range = depth_range)

    if values_are_free(depth_range):
        near, far = depth_range.unbind(dim = 1)

        if not ((near > 0) & (far > near)).all():
            fail('depth_range', 'must be (near, far) of each scene, with 0 < near < far', depth_range.tolist(), 'far may be infinite. Left out, planes reach from near_plane to infinity.')

    return depth_range


def check_distances(model: LVSM, distances: Tensor | None, target_rays: Tensor, target_images: Tensor | None) -> None:
    if distances is None:
        return

    if not model.plane_sweep.knows_distances or target_images is None:
        fail('target_distances', "must be left out without target_images, and without num_depth_planes and plane_sweep = 'features'", tuple(distances.shape), 'They are the targets of the depth loss.')

    check_floating(target_distances = distances)
    check_shape('b t h w', dict(zip('bthw', (*target_rays.shape[:2], *target_rays.shape[-2:]), strict = True)), target_distances = distances)


def check_scene(model: LVSM, scene: object) -> None:
    """Checks that a scene is from `encode` of a model with the same options, in either mode."""
    if not isinstance(scene, EncodedScene) or (scene.tokens is None) == (len(scene.keys_values) == 0):
        fail('scene', 'must be from encode()', type(scene).__name__, 'Encode it with this model.')

    if (scene.reference is None) != (model.camera_encoding == 'plucker'):
        fail('scene', f'must be from encode() of a model with camera_encoding = {model.camera_encoding!r}', 'one of another', 'Encode it with this model.')

    if (scene.source is None) != (model.num_depth_planes == 0):
        fail('scene', f'must be from encode() of a model with num_depth_planes = {model.num_depth_planes}', 'one of another', 'Encode it with this model.')


def check_tokens_alone(model: LVSM) -> None:
    if model.num_depth_planes > 0:
        fail('num_depth_planes', 'must be 0 for tokens() and what is built on it, such as MAE', model.num_depth_planes, 'A plane sweep needs target views, and not tokens alone.')


def check_masks(rays: Tensor, **masks: Tensor | None) -> None:
    """Checks that each mask is (b v) bool, or None.

    Args:
        rays: (b v 6 h w).
    """
    for name, mask in masks.items():
        if mask is not None:
            check_shape('b v', check_shape('b v 6 h w', rays = rays), **{name: mask})

            if mask.dtype != torch.bool:
                fail(name, 'must be boolean, True where something is missing', mask.dtype, 'Convert it with .bool().')


# warnings

def warn_of_other_rays(model: LVSM, *several: Views) -> None:
    """Warns once of rays that do not belong to the cameras, for models that use both, if reading values is free."""
    if any(model.needs_cameras and has_other_rays(views) for views in several):
        warn_once(model, 'rays are not those of the cameras beside them: make both from the same poses and intrinsics, after normalisation and for this image size')


def has_other_rays(views: Views) -> bool:
    """Returns whether some rays do not belong to the cameras, for example rays of normalised poses with the original cameras. Views without rays are ignored."""
    if views.cameras is None or not values_are_free(views.rays) or not values_are_free(views.cameras.intrinsics):
        return False

    height, width = views.rays.shape[-2:]
    rows, columns = torch.tensor([0, height // 2, height - 1]), torch.tensor([0, width // 2, width - 1])
    direction, moment = views.rays[..., rows, columns].detach().double().chunk(2, dim = 2)
    poses, intrinsics = (t.detach().double() for t in views.cameras)
    rotation, center = poses[..., :3, :3], poses[..., :3, 3:]

    # rays belong to a camera if K Rᵀ d is their pixel, of positive depth, and o × d their moment

    pixel = intrinsics @ rotation.mT @ direction
    expected = torch.stack((columns + 0.5, rows + 0.5, torch.ones(3)))
    length = (intrinsics.diagonal(dim1 = -2, dim2 = -1)[..., :2].abs().amin(dim = -1)[..., None, None] * RAY_TOLERANCE).clamp(min = 0.5)
    off = (pixel - expected * pixel[..., 2:, :]).abs().amax(dim = 2, keepdim = True) > length * pixel[..., 2:, :]
    off |= (moment - torch.linalg.cross(center.expand_as(direction), direction, dim = 2)).abs().amax(dim = 2, keepdim = True) > RAY_TOLERANCE * (1 + center.norm(dim = 2, keepdim = True))
    return bool((off & (direction != 0).any(dim = 2, keepdim = True)).any())


def warn_far_from_training(model: LVSM, sizes: dict[str, int]) -> None:
    """Warns once, in eval mode, of sizes or numbers of views more than twice or less than half those of training."""
    if model.trained_for is None or model.training:
        return

    now = dict(height = sizes['h'], width = sizes['w'], inputs = sizes['v'])
    then = dict(zip(now, (*model.trained_for.image_size, model.trained_for.num_inputs), strict = True))
    far = [f'{name} {now[name]}, trained with {then[name]}' for name in now if not then[name] / 2 <= now[name] <= then[name] * 2]

    if far:
        warn_once(model, f'these weights are used far from what they were trained for: {"; ".join(far)}')


def warn_once(model: LVSM, message: str) -> None:
    """Warns once for each model and kind of message."""
    kind = message.partition(':')[0].partition(' of ')[0]

    if not torch.compiler.is_compiling() and kind not in model.warned_of:
        model.warned_of.add(kind)
        warnings.warn(message, stacklevel = 6)


# arguments of the constructor

def check_arguments(config: dict[str, Any], perceptual_loss: object) -> None:
    """Checks the arguments of `LVSM`.

    Args:
        config: Arguments of `LVSM` by name except the perceptual loss; heads may be None.

    Raises:
        ValueError: If one is out of range.
    """
    c = config

    for name in ('dim', 'max_image_size', 'patch_size', 'depth', 'dim_head', 'channels'):
        if not isinstance(c[name], int) or c[name] < 1:
            fail(name, 'must be an integer of at least 1', repr(c[name]), 'The paper has dim 768, depth 24, patch_size 8 at 256 pixels.')

    heads = c['dim'] // c['dim_head'] if c['heads'] is None else c['heads']

    if not isinstance(heads, int) or heads < 1:
        fail('heads', 'must be an integer of at least 1', repr(heads), f'Left out, it is dim // dim_head, here {c["dim"]} // {c["dim_head"]}: lower dim_head or pass heads.')

    if c['max_image_size'] % c['patch_size'] != 0:
        fail('max_image_size', f'must be a multiple of patch_size {c["patch_size"]}', c['max_image_size'], f'For example {max(c["max_image_size"] // c["patch_size"], 1) * c["patch_size"]}.')

    if not 0 <= c['dropout_input_ray_prob'] < 1:
        fail('dropout_input_ray_prob', 'must be a probability from 0 up to below 1', c['dropout_input_ray_prob'], 'Use 0 for no dropout.')

    if perceptual_loss is not None and not callable(perceptual_loss):
        fail('perceptual_loss', 'must be a module or None', repr(perceptual_loss), 'Pass for example PerceptualLoss.from_matconvnet(path).')

    if isinstance(perceptual_loss, PerceptualLoss) and c['channels'] != 3:
        fail('perceptual_loss', 'compares images of 3 channels', f'channels = {c["channels"]}', 'Leave it out, or pass a module that takes your channels.')

    if c['perceptual_loss_weight'] < 0:
        fail('perceptual_loss_weight', 'must be at least 0', c['perceptual_loss_weight'], 'Use 0 to switch it off.')

    if c['camera_encoding'] not in CAMERA_ENCODINGS:
        fail('camera_encoding', f'must be one of {list(CAMERA_ENCODINGS)}', repr(c['camera_encoding']), "The paper's is 'plucker'.")

    multiple = CAMERA_ENCODINGS[c['camera_encoding']].dim_head_multiple

    if c['dim_head'] % multiple != 0:
        fail('dim_head', f'must be a multiple of {multiple} with camera_encoding = {c["camera_encoding"]!r}', c['dim_head'], 'Its dimensions are taken in groups: use for example 64.')

    if c['plane_sweep'] not in PLANE_SWEEPS:
        fail('plane_sweep', f'must be one of {list(PLANE_SWEEPS)}', repr(c['plane_sweep']), "Use 'colors'.")

    if not isinstance(c['num_depth_planes'], int) or c['num_depth_planes'] < 0:
        fail('num_depth_planes', 'must be an integer of at least 0', repr(c['num_depth_planes']), 'Use 0 for the paper\'s network, 16 for a plane sweep.')

    if not c['near_plane'] > 0:
        fail('near_plane', 'must be a length above 0', c['near_plane'], 'Take the distance from a camera to the nearest surface.')
