"""The paper's network once more, to judge the library by: in bare torch, slow, without any part of the library or of x-transformers.

Weights have the names and the layout of the paper authors' checkpoints. Every step is written out as the paper has it; batches
and views are loops.
"""

from __future__ import annotations

import torch
from torch import Tensor


def plain_rays(camera_to_world: Tensor, fxfycxcy: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Origins and unit directions, both (3 h w), of one camera (4 4), fx fy cx cy in pixels."""
    fx, fy, cx, cy = fxfycxcy
    origin, direction = torch.zeros(3, height, width), torch.zeros(3, height, width)

    for y in range(height):
        for x in range(width):
            in_camera = torch.stack(((x + 0.5 - cx) / fx, (y + 0.5 - cy) / fy, torch.tensor(1.)))
            in_world = camera_to_world[:3, :3] @ in_camera
            direction[:, y, x] = in_world / in_world.norm()
            origin[:, y, x] = camera_to_world[:3, 3]

    return origin, direction


def patches(image: Tensor, size: int) -> Tensor:
    """(c h w) -> (n, size · size · c): rows of patches, each flattened as row, column, channel."""
    _, height, width = image.shape
    return torch.stack([
        image[:, y:y + size, x:x + size].permute(1, 2, 0).reshape(-1)
        for y in range(0, height, size) for x in range(0, width, size)
    ])


def layer_norm(x: Tensor, weight: Tensor) -> Tensor:
    mean = x.mean(dim = -1, keepdim = True)
    variance = (x - mean).square().mean(dim = -1, keepdim = True)
    return (x - mean) / (variance + 1e-5).sqrt() * weight


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(dim = -1, keepdim = True) + 1e-5).sqrt() * weight


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2 ** 0.5))


def attention(x: Tensor, weights: dict[str, Tensor], block: str) -> Tensor:
    """x: (n d), all tokens attend to all."""
    q_weight, k_weight = weights[block + 'attn.q_norm.weight'], weights[block + 'attn.k_norm.weight']
    dim_head = len(q_weight)
    q, k, v = (x @ weights[block + 'attn.to_qkv.weight'].T).chunk(3, dim = -1)
    heads = []

    for start in range(0, q.shape[1], dim_head):
        part = slice(start, start + dim_head)
        similarity = rms_norm(q[:, part], q_weight) @ rms_norm(k[:, part], k_weight).T / dim_head ** 0.5
        heads.append(similarity.softmax(dim = -1) @ v[:, part])

    return torch.cat(heads, dim = -1) @ weights[block + 'attn.fc.weight'].T


def plain_lvsm(weights: dict[str, Tensor], images: Tensor, input_rays: list[tuple[Tensor, Tensor]], target_rays: tuple[Tensor, Tensor], patch_size: int) -> Tensor:
    """One target view (3 h w) of one scene, from images (v 3 h w) and origins and directions of inputs (v times) and target."""

    def plucker(origin: Tensor, direction: Tensor) -> Tensor:
        return torch.cat((torch.linalg.cross(origin, direction, dim = 0), direction))

    tokens = [patches(torch.cat((image * 2 - 1, plucker(*rays))), patch_size) @ weights['image_tokenizer.1.weight'].T for image, rays in zip(images, input_rays, strict = True)]
    tokens.append(patches(plucker(*target_rays), patch_size) @ weights['target_pose_tokenizer.1.weight'].T)
    num_target_tokens = len(tokens[-1])

    x = layer_norm(torch.cat(tokens), weights['transformer_input_layernorm.weight'])
    depth = 1 + max(int(name.split('.')[1]) for name in weights if name.startswith('transformer_blocks.'))

    for index in range(depth):
        block = f'transformer_blocks.{index}.'
        x = x + attention(layer_norm(x, weights[block + 'norm1.weight']), weights, block)
        hidden = gelu(layer_norm(x, weights[block + 'norm2.weight']) @ weights[block + 'mlp.mlp.0.weight'].T)
        x = x + hidden @ weights[block + 'mlp.mlp.2.weight'].T

    x = layer_norm(x[-num_target_tokens:], weights['image_token_decoder.0.weight'])
    pixels = (x @ weights['image_token_decoder.1.weight'].T).sigmoid()

    # patches back to where they were

    _, height, width = images.shape[1:]
    view = torch.empty(3, height, width)
    positions = [(y, x) for y in range(0, height, patch_size) for x in range(0, width, patch_size)]

    for (top, left), patch in zip(positions, pixels, strict = True):
        view[:, top:top + patch_size, left:left + patch_size] = patch.view(patch_size, patch_size, 3).permute(2, 0, 1)

    return view


def random_weights(*, dim: int, dim_head: int, depth: int, patch_size: int) -> dict[str, Tensor]:
    """Weights of trained-like size: every part of the network matters."""
    inner = dim // dim_head * dim_head

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns) * columns ** -0.5

    def vector(size: int) -> Tensor:
        return 1 + 0.2 * torch.randn(size)

    weights = {
        'image_tokenizer.1.weight': matrix(dim, patch_size ** 2 * 9),
        'target_pose_tokenizer.1.weight': matrix(dim, patch_size ** 2 * 6),
        'transformer_input_layernorm.weight': vector(dim),
        'image_token_decoder.0.weight': vector(dim),
        'image_token_decoder.1.weight': matrix(patch_size ** 2 * 3, dim),
    }
    for index in range(depth):
        block = f'transformer_blocks.{index}.'
        weights |= {
            block + 'norm1.weight': vector(dim),
            block + 'attn.to_qkv.weight': matrix(3 * inner, dim),
            block + 'attn.q_norm.weight': vector(dim_head),
            block + 'attn.k_norm.weight': vector(dim_head),
            block + 'attn.fc.weight': matrix(dim, inner),
            block + 'norm2.weight': vector(dim),
            block + 'mlp.mlp.0.weight': matrix(4 * dim, dim),
            block + 'mlp.mlp.2.weight': matrix(dim, 4 * dim),
        }
    return weights
