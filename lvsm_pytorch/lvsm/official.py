"""Reading and writing of checkpoints of the LVSM authors.

Their layout differs in the tokenizers, which take a patch of p × p pixels flattened as row, column, channel, with the channels image (3), moment
o × d (3), direction d (3); in attention, where q, k and v are stacked in one matrix; and in names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_tensors

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.model import LVSM


LICENSE = 'The LVSM authors publish their weights for non-commercial use alone (see the licence beside their checkpoints); converting them changes nothing about that.'

# channels of a patch in this library, by their position in the authors' layout

IMAGE_AND_RAY = [0, 1, 2, 6, 7, 8, 3, 4, 5]
RAY = [3, 4, 5, 0, 1, 2]

TOP = {
    'transformer_input_layernorm.weight': 'norm.weight',
    'image_token_decoder.0.weight': 'transformer.final_norm.weight',
    'image_token_decoder.1.weight': 'to_pixels.weight',
}

# keys of a block: theirs, and ours in its attention (a) or feed-forward (f) half

BLOCK = {
    'norm1.weight': '{a}.0.0.weight',
    'attn.q_norm.weight': '{a}.1.q_rmsnorm.weight',
    'attn.k_norm.weight': '{a}.1.k_rmsnorm.weight',
    'attn.fc.weight': '{a}.1.to_out.weight',
    'norm2.weight': '{f}.0.0.weight',
    'mlp.mlp.0.weight': '{f}.1.ff.0.0.weight',
    'mlp.mlp.2.weight': '{f}.1.ff.2.weight',
}

QKV = 'attn.to_qkv.weight'

# flags of the Encoder that do not change its outputs

NOT_OF_THE_NETWORK = {'attn_flash', 'attn_dropout', 'ff_dropout', 'layer_dropout', 'verbose'}


def names_of_block(index: int) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns for block `index` a mapping from their names to ours, and our names of q, k and v."""
    a, f = f'transformer.layers.{2 * index}', f'transformer.layers.{2 * index + 1}'
    names = {f'transformer_blocks.{index}.{theirs}': ours.format(a = a, f = f) for theirs, ours in BLOCK.items()}
    return names, tuple(f'{a}.1.to_{letter}.weight' for letter in 'qkv')


def permute_channels(weight: Tensor, order: list[int]) -> Tensor:
    """Reorders the channels of a tokenizer's weight (d, p·p·c)."""
    by_channel = weight.unflatten(1, (-1, len(order)))
    return by_channel[..., order].flatten(1)


def inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key = order.__getitem__)


def read_official(checkpoint: str | PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads the arguments of `LVSM` (except `max_image_size`) and the weights from a checkpoint of the authors.

    Args:
        checkpoint: A file, which is read without running code, its content, or its state dict.

    Raises:
        ValueError: If the file is missing or has other objects than tensors and plain values, if the checkpoint is of the encoder-decoder network, or if keys are missing, unknown or
            have other shapes; the message lists them.
    """
    state = official_state(checkpoint)
    refuse_encoder_decoder(state)

    depth = 1 + max((int(found[1]) for name in state if (found := re.match(r'transformer_blocks\.(\d+)\.', name))), default = -1)
    sizes = official_sizes(state, depth)
    expected = official_shapes(depth = depth, **sizes)

    missing = sorted(set(expected) - set(state))
    unknown = sorted(set(state) - set(expected))
    misshapen = [f'{name}: {tuple(state[name].shape)} for {shape}' for name, shape in expected.items() if name in state and tuple(state[name].shape) != shape]

    if missing or unknown or misshapen:
        fail('checkpoint', 'must have the keys and shapes of the authors\' decoder-only LVSM', f'missing {missing}, unknown {unknown}, misshapen {misshapen}',
             'Is it a checkpoint of another network?')

    weights = {ours: state[theirs] for theirs, ours in TOP.items()}
    weights['to_input_tokens.weight'] = permute_channels(state['image_tokenizer.1.weight'], IMAGE_AND_RAY)
    weights['to_target_tokens.weight'] = permute_channels(state['target_pose_tokenizer.1.weight'], RAY)

    for index in range(depth):
        names, qkv = names_of_block(index)
        weights |= {ours: state[theirs] for theirs, ours in names.items()}
        weights |= dict(zip(qkv, state[f'transformer_blocks.{index}.{QKV}'].chunk(3), strict = True))

    inner = sizes.pop('inner')
    return dict(**sizes, depth = depth, heads = inner // sizes['dim_head']), weights


def official_state(checkpoint: str | PathLike[str] | Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the tensors of the network, without the `loss_computer.` entries and `module.` prefixes of training."""
    if not isinstance(checkpoint, Mapping):
        checkpoint = read_tensors(checkpoint, argument = 'checkpoint')

    state = checkpoint.get('model', checkpoint) if isinstance(checkpoint, Mapping) else checkpoint

    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        fail('checkpoint', 'must be a state dict, or have one under `model`', type(state).__name__, 'Pass a checkpoint of the authors\' code.')

    state = {name.removeprefix('module.'): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in state.items() if not name.startswith('loss_computer.')}


def refuse_encoder_decoder(state: Mapping[str, Tensor]) -> None:
    of_another = [name for name in state if name.startswith(('n_light_field_latent', 'transformer_encoder.', 'transformer_decoder.'))]

    if of_another:
        fail('checkpoint', 'must be of the decoder-only LVSM, which this library is', f'one of the encoder-decoder, with {of_another[0]}', 'Take the authors\' decoder-only checkpoint.')


def official_sizes(state: Mapping[str, Tensor], depth: int) -> dict[str, int]:
    """Returns dim, dim_head, patch_size and inner (the width of all heads together), from the shapes of tensors."""
    sources = dict(dim = 'target_pose_tokenizer.1.weight', dim_head = 'transformer_blocks.0.attn.q_norm.weight', inner = 'transformer_blocks.0.attn.fc.weight')
    missing = [name for name in sources.values() if name not in state]

    if missing or depth == 0:
        fail('checkpoint', 'must have the keys of the authors\' decoder-only LVSM', f'missing {missing}', f'It has {sorted(state)[:5]} and so on.')

    tokenizer = state[sources['dim']]
    patch_size = round((tokenizer.shape[-1] / 6) ** 0.5)
    return dict(dim = tokenizer.shape[0], dim_head = state[sources['dim_head']].shape[0], patch_size = patch_size, inner = state[sources['inner']].shape[-1])


def official_shapes(*, dim: int, dim_head: int, inner: int, patch_size: int, depth: int) -> dict[str, tuple[int, ...]]:
    """Returns all keys of their layout with the shapes of the tensors."""
    shapes: dict[str, tuple[int, ...]] = {
        'image_tokenizer.1.weight': (dim, patch_size ** 2 * 9),
        'target_pose_tokenizer.1.weight': (dim, patch_size ** 2 * 6),
        'transformer_input_layernorm.weight': (dim,),
        'image_token_decoder.0.weight': (dim,),
        'image_token_decoder.1.weight': (patch_size ** 2 * 3, dim),
    }
    of_block: dict[str, tuple[int, ...]] = {
        'norm1.weight': (dim,),
        'attn.to_qkv.weight': (3 * inner, dim),
        'attn.q_norm.weight': (dim_head,),
        'attn.k_norm.weight': (dim_head,),
        'attn.fc.weight': (dim, inner),
        'norm2.weight': (dim,),
        'mlp.mlp.0.weight': (4 * dim, dim),
        'mlp.mlp.2.weight': (dim, 4 * dim),
    }
    return shapes | {f'transformer_blocks.{index}.{name}': shape for index in range(depth) for name, shape in of_block.items()}


def to_official(model: LVSM) -> dict[str, Tensor]:
    """Converts the weights exactly to the authors' layout; the inverse of `LVSM.from_official`.

    Raises:
        ValueError: If the network has options that the layout does not support, which the message lists.
    """
    inexpressible = sorted(set(model.config['decoder_kwargs']) - NOT_OF_THE_NETWORK)
    inexpressible += [f'channels = {model.channels}'] if model.channels != 3 else []
    inexpressible += [] if model.input_attends_target else ['input_attends_target = False']
    inexpressible += [] if model.camera_encoding == 'plucker' else [f'camera_encoding = {model.camera_encoding!r}']
    inexpressible += [] if model.num_depth_planes == 0 else [f'num_depth_planes = {model.num_depth_planes}']

    if inexpressible:
        fail('model', 'must be the paper\'s network to be written in the authors\' layout', f'one with {inexpressible}', 'Build the model without them.')

    weights = model.state_dict()
    depth = model.config['depth']
    official = {theirs: weights[ours] for theirs, ours in TOP.items()}
    official['image_tokenizer.1.weight'] = permute_channels(weights['to_input_tokens.weight'], inverse(IMAGE_AND_RAY))
    official['target_pose_tokenizer.1.weight'] = permute_channels(weights['to_target_tokens.weight'], inverse(RAY))

    for index in range(depth):
        names, qkv = names_of_block(index)
        official |= {theirs: weights[ours] for theirs, ours in names.items()}
        official[f'transformer_blocks.{index}.{QKV}'] = torch.cat([weights[name] for name in qkv])

    return {name: tensor.detach().clone() for name, tensor in official.items()}
