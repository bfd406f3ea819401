"""Checks of the arguments that a model is made of."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lvsm_pytorch.errors import fail
from lvsm_pytorch.lvsm.losses import PerceptualLoss


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

    if not isinstance(c['sweep_depths'], int) or c['sweep_depths'] < 0:
        fail('sweep_depths', 'must be an integer of at least 0', repr(c['sweep_depths']), 'Use 0 for the paper\'s network, 16 for one that looks along its rays.')

    if not c['sweep_nearest'] > 0:
        fail('sweep_nearest', 'must be a length above 0', c['sweep_nearest'], 'Take the distance from a camera to the nearest thing that it sees.')
