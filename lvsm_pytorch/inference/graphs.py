"""Modules for export, with tensors as inputs and outputs: `EncodeGraph` from photos and cameras to an encoded scene, `RenderGraph` from that and target cameras to views.

Rays and depth planes are computed inside, so that a graph takes cameras only. Tensors belong to one scene; those of the encoded scene keep the model's
leading axis b = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.overrides import TorchFunctionMode

from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.rays import inverse_intrinsics, plucker_rays, rays_through
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.validation import without_padding
from lvsm_pytorch.lvsm.views import Views

# letters for the leading axes of an einsum, which no equation of the model uses

LEADING = 'ABCDEFGH'

KEYS, VALUES, SOURCE = 'keys_', 'values_', 'source_'


def scene_tensors(scene: EncodedScene) -> dict[str, Tensor]:
    """Returns the tensors of an encoded scene by name: its fields, keys_0, values_0, keys_1, ... of the blocks, and source_NAME of the plane sweep."""
    named = {name: getattr(scene, name) for name in ('tokens', 'valid_mask', 'pose', 'reference')}
    named.update({f'{prefix}{index}': tensor for index, pair in enumerate(scene.keys_values) for prefix, tensor in zip((KEYS, VALUES), pair, strict = True)})
    named.update({f'{SOURCE}{name}': tensor for name, tensor in (scene.source or {}).items()})
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def scene_of_tensors(named: Mapping[str, Tensor]) -> EncodedScene:
    """Builds an encoded scene from its tensors by name; the inverse of `scene_tensors`."""
    depth = sum(name.startswith(KEYS) for name in named)
    source = {name.removeprefix(SOURCE): tensor for name, tensor in named.items() if name.startswith(SOURCE)}
    return EncodedScene(
        named.get('tokens'), tuple((named[f'{KEYS}{index}'], named[f'{VALUES}{index}']) for index in range(depth)),
        named.get('valid_mask'), named.get('pose'), named.get('reference'), source or None,
    )


class EncodeGraph(Module):
    """Encodes the photos of a scene.

    Args:
        model: Model in the mode to export.
    """

    def __init__(self, model: LVSM):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, camera_to_world: Tensor, intrinsics: Tensor, depth_range: Tensor | None = None, num_images: Tensor | None = None) -> dict[str, Tensor]:
        """Returns the tensors of an `EncodedScene` by name, as `scene_tensors`.

        Args:
            images: (v c h w) in [0, 1].
            camera_to_world: (v 4 4), OpenCV axes, in the world of training.
            intrinsics: (v 3 3), in pixels of `images`.
            depth_range: (2), near and far distance of the scene for plane_sweep = 'features'; far may be infinite.
            num_images: (), integer, number of valid views, which come first; the others are padding.
        """
        with ExportableOperators():
            cameras = Cameras(camera_to_world, intrinsics)[None]
            height, width = images.shape[-2:]
            rays = plucker_rays(*cameras, image_size = (height, width))
            valid_mask = None if num_images is None else (torch.arange(images.shape[0]) < num_images)[None]
            depth_range = None if depth_range is None else depth_range[None]
            inputs = without_padding(Views(rays, images[None], cameras, valid_mask, depth_range))
            return scene_tensors(self.model.encode_views(inputs, self.model.input_attends_target))


class RenderGraph(Module):
    """Renders views of an encoded scene."""

    def __init__(self, model: LVSM):
        super().__init__()
        self.model = model

    def forward(self, scene: Mapping[str, Tensor], camera_to_world: Tensor, intrinsics: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Renders views (t c h w) in [0, 1].

        Args:
            scene: Tensors of `EncodeGraph`.
            camera_to_world: (t 4 4), in the world of the photos' cameras.
            intrinsics: (t 3 3), in pixels of the views.
            rows: (h), the y coordinates of pixel centres, 0.5, 1.5, ...; h is a multiple of `patch_size`.
            columns: (w), the x coordinates.
        """
        with ExportableOperators():
            cameras = Cameras(camera_to_world, intrinsics)[None]
            y, x = torch.meshgrid(rows, columns, indexing = 'ij')
            inverse = inverse_intrinsics(intrinsics = cameras.intrinsics)
            rays = rays_through(cameras.camera_to_world[..., :3, 3], cameras.camera_to_world[..., :3, :3], inverse, torch.stack((x, y, torch.ones_like(x))))
            targets = Views(rays, cameras = cameras)
            return self.model.render_views(targets, scene_of_tensors(scene))[0][0]


# operators that exporters do not support, computed by others

def inverse_of_3x3(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Replaces torch.linalg.inv_ex for matrices (... 3 3): the columns of the adjugate are cross products of the rows. The second result is always zero."""
    first, second, third = matrix.unbind(dim = -2)
    columns = torch.stack((torch.linalg.cross(second, third), torch.linalg.cross(third, first), torch.linalg.cross(first, second)), dim = -1)
    determinant = (first * columns[..., 0]).sum(dim = -1)
    return columns / determinant[..., None, None], torch.zeros_like(determinant, dtype = torch.int32)


def search_by_counting(sorted_sequence: Tensor, values: Tensor) -> Tensor:
    """Replaces torch.searchsorted: counts the elements of a sequence (... n) below each of the values (... k)."""
    return (sorted_sequence.unsqueeze(-2) < values.unsqueeze(-1)).sum(dim = -1)


def einsum_by_sums(equation: str, *operands: Tensor) -> Tensor:
    """Replaces torch.einsum by broadcast products and sums, since runtimes support different equations. The sums of this model are short."""
    *terms, out = equation.replace(' ', '').replace('->', ',').split(',')

    # an ellipsis stands for the last of the leading axes

    leading = [operand.ndim - len(term.replace('...', '')) for term, operand in zip(terms, operands, strict = True)]
    *terms, out = (term.replace('...', LEADING[-count:] if count else '') for term, count in zip((*terms, out), (*leading, max(leading)), strict = True))
    product, letters = operands[0], terms[0]

    for index, (term, operand) in enumerate(zip(terms[1:], operands[1:], strict = True), start = 2):
        every = letters + ''.join(letter for letter in term if letter not in letters)
        letters = ''.join(letter for letter in every if letter in out + ''.join(terms[index:]))
        product = aligned(product, every[:product.ndim], every) * aligned(operand, term, every)
        summed = [axis for axis, letter in enumerate(every) if letter not in letters]
        product = product.sum(dim = summed) if summed else product

    return product.permute([letters.index(letter) for letter in out])


def aligned(tensor: Tensor, axes: str, every: str) -> Tensor:
    """Permutes and expands a tensor to the axes `every`, with length 1 for axes that it lacks."""
    tensor = tensor.permute([axes.index(letter) for letter in every if letter in axes])
    return tensor[tuple(slice(None) if letter in axes else None for letter in every)]


class ExportableOperators(TorchFunctionMode):
    """Context manager that replaces operators without an ONNX equivalent."""

    IN_PLACE_OF: dict[Any, Callable[..., Any]] = {torch.linalg.inv_ex: inverse_of_3x3, torch.searchsorted: search_by_counting, torch.einsum: einsum_by_sums}

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return self.IN_PLACE_OF.get(func, func)(*args, **(kwargs or {}))
