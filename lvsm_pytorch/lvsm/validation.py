"""Checks of the views that a model is given: that images, rays and cameras belong together, and fit the model."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lvsm_pytorch.checks import check_floating, check_shape
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.lvsm.losses import PerceptualLoss

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.model import LVSM


def check_views(model: LVSM, **images_and_rays: Tensor) -> dict[str, int]:
    """The sizes b, v, h, w of images and rays that belong together.

    Errors: ValueError for anything else, and for sizes that the model does not take.
    """
    (images_name, images), (rays_name, rays) = images_and_rays.items()
    check_floating(**images_and_rays)

    sizes = check_shape('b v c h w', dict(c = model.channels), **{images_name: images})
    check_shape('b v 6 h w', sizes, **{rays_name: rays})

    if sizes['v'] == 0:
        fail(images_name, 'must have at least one view', 'none', 'Pass the photos that the model may see.')

    warn_far_from_training(model, sizes)
    check_size(model, images_name, sizes)
    return sizes


def check_size(model: LVSM, name: str, sizes: dict[str, int]) -> None:
    """Whether patches cover it, and it is not too large."""
    for side in ('h', 'w'):
        if sizes[side] == 0 or sizes[side] % model.patch_size != 0 or sizes[side] > model.max_image_size:
            fail(name, f'must have height and width that are multiples of patch_size {model.patch_size}, up to max_image_size {model.max_image_size}',
                 f'{sizes["h"]} × {sizes["w"]}', 'Resize or crop the images, and make their rays for the new size.')


def check_cameras(model: LVSM, cameras: Cameras | None, batch: int, num_views: int) -> None:
    if cameras is None and (model.camera_encoding != 'plucker' or model.num_depth_planes > 0):
        which = f'camera_encoding = {model.camera_encoding!r}' if model.num_depth_planes == 0 else f'num_depth_planes = {model.num_depth_planes}'
        fail('cameras', f'must be given to a model with {which}', None, 'Pass Cameras(camera_to_world, intrinsics) of the views, as the rays were made with.')

    if cameras is not None:
        check_shape('b views 4 4', dict(b = batch, views = num_views), camera_to_world = cameras.camera_to_world)
        check_shape('b views 3 3', dict(b = batch, views = num_views), intrinsics = cameras.intrinsics)


def check_targets(target_rays: Tensor, target_images: Tensor | None, sizes: dict[str, int]) -> bool:
    """Whether there are several targets (a t axis). sizes: those of the inputs."""
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


def warn_far_from_training(model: LVSM, sizes: dict[str, int]) -> None:
    """Says once, outside of training, that sizes or numbers of views are more than twice or less than half of those the weights have learnt from."""
    if model.trained_for is None or model.has_warned or model.training or torch.compiler.is_compiling():
        return

    now = dict(height = sizes['h'], width = sizes['w'], inputs = sizes['v'])
    then = dict(zip(now, (*model.trained_for.image_size, model.trained_for.num_inputs), strict = True))
    far = [f'{name} {now[name]}, trained with {then[name]}' for name in now if not then[name] / 2 <= now[name] <= then[name] * 2]

    if far:
        warnings.warn(f'these weights are used far from what they were trained for: {"; ".join(far)}', stacklevel = 6)
        model.has_warned = True


def check_arguments(config: dict[str, Any], perceptual_loss: object, camera_encodings: Collection[str]) -> None:
    """config: arguments of `LVSM` by name, all of them but the perceptual loss; heads may be None. Errors: ValueError for those out of range."""
    c = config

    for name in ('dim', 'max_image_size', 'patch_size', 'depth', 'dim_head', 'channels'):
        if not isinstance(c[name], int) or c[name] < 1:
            fail(name, 'must be an integer of at least 1', repr(c[name]), 'The paper has dim 768, depth 24, patch_size 8 at 256 pixels.')

    heads = c['dim'] // c['dim_head'] if c['heads'] is None else c['heads']

    if not isinstance(heads, int) or heads < 1:
        fail('heads', 'must be an integer of at least 1', repr(heads), f'Left out, it is dim // dim_head, here {c["dim"]} // {c["dim_head"]}: lower dim_head or say heads.')

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

    if c['camera_encoding'] not in camera_encodings:
        fail('camera_encoding', f'must be one of {list(camera_encodings)}', repr(c['camera_encoding']), "The paper's is 'plucker'.")

    if not isinstance(c['num_depth_planes'], int) or c['num_depth_planes'] < 0:
        fail('num_depth_planes', 'must be an integer of at least 0', repr(c['num_depth_planes']), 'Use 0 for the paper\'s network, 16 for one that looks along its rays.')

    if not c['near_plane'] > 0:
        fail('near_plane', 'must be a length above 0', c['near_plane'], 'Take the distance from a camera to the nearest thing that it sees.')
