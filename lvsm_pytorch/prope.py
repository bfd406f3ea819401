"""Attention that sees how cameras lie to each other: Li et al. 2025, "Cameras as Relative Positional Encoding" (PRoPE).

With P_i the 4 × 4 projection of the camera of token i, a token reads in one half of each head's dimensions

    out_i = P_i Σ_j a_ij P_j⁻¹ v_j,    a_ij = softmax_j (P_iᵀ q_i · P_j⁻¹ k_j),

of which nothing depends on the world, since only products P_i P_j⁻¹ come up. In the other half, two and two dimensions are turned by
angles that say the patch's column or row (Su et al. 2021, "RoFormer"), so that there too only differences count.
"""

from __future__ import annotations

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

from lvsm_pytorch.precision import at_least_float32, in_float32, without_autocast

# angles of the rotary half fall from 1 radian a patch, by this factor in all

ROTARY_BASE = 100.


def reference_of(camera_to_world: Tensor, has_rays: Tensor | None) -> Tensor:
    """Camera to world (b 4 4) that all others are told by: of the first of (b v 4 4) that has rays, (b v) bool; the world where none has. So a world far from its origin costs no digits."""
    if has_rays is None:
        return camera_to_world[:, 0]

    has_rays = has_rays.to(camera_to_world.device)
    first = camera_to_world.gather(1, repeat(has_rays.int().argmax(dim = 1), 'b -> b 1 i j', i = 4, j = 4)).squeeze(1)
    world = torch.eye(4, dtype = first.dtype, device = first.device)
    return torch.where(rearrange(has_rays.any(dim = 1), 'b -> b 1 1'), first, world)


@in_float32
def camera_rays(rays: Tensor, camera_to_world: Tensor, has_rays: Tensor | None = None) -> Tensor:
    """Directions (b v 3 h w) in the frame of their own cameras, of Plücker rays (b v 6 h w) of the world. Where there are no rays they are zero.

    Seen from itself a camera is at the origin, where moments are zero.
    """
    directions = einsum(camera_to_world[..., :3, :3], rays[:, :, :3], 'b v i j, b v i h w -> b v j h w')
    return directions if has_rays is None else torch.where(rearrange(has_rays.to(rays.device), 'b v -> b v 1 1 1'), directions, 0.)


@in_float32
def places(camera_to_world: Tensor, intrinsics: Tensor, reference: Tensor, has_rays: Tensor | None, *, image_size: tuple[int, int], patch_size: int, dim_head: int) -> Tensor:
    """All that attention knows of where tokens are: (b v h w 32 + dim_head / 2), of (h w) patches.

    camera_to_world: (b v 4 4). intrinsics: (b v 3 3), in pixels of images of `image_size` (height, width). reference: (b 4 4), from `reference_of`.
    has_rays: (b v) bool. Views without rays have the projection of the reference, whatever their cameras hold.

    For each token: P and P⁻¹, row by row, then cosines and sines of the angles.
    """
    project, unproject = projections(camera_to_world, intrinsics, reference, image_size)

    if has_rays is not None:
        has_rays = rearrange(has_rays.to(project.device), 'b v -> b v 1 1')
        identity = torch.eye(4, dtype = project.dtype, device = project.device)
        project, unproject = (torch.where(has_rays, each, identity) for each in (project, unproject))

    height, width = (side // patch_size for side in image_size)
    of_views = repeat(torch.stack((project, unproject), dim = 2), 'b v two i j -> b v h w (two i j)', h = height, w = width)
    of_patches = repeat(angles(height, width, dim_head, project), 'h w a -> b v h w a', b = len(project), v = project.shape[1])
    return torch.cat((of_views, of_patches.cos(), of_patches.sin()), dim = -1)


def projections(camera_to_world: Tensor, intrinsics: Tensor, reference: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """P and P⁻¹ (b v 4 4): from the reference (b 4 4) to cameras (b v 4 4), and by their intrinsics into an image of side 1 around 0."""
    height, width = image_size
    rotation, centre = camera_to_world[..., :3, :3], camera_to_world[..., :3, 3]
    to_reference = rearrange(reference[:, :3, :3].mT, 'b i j -> b 1 i j')
    offset = rearrange(centre - reference[:, None, :3, 3], 'b v i -> b v i 1')  # first of all: what is far is then gone

    to_unit = intrinsics.new_tensor([[1 / width, 0., -0.5], [0., 1 / height, -0.5], [0., 0., 1.]])
    intrinsics = to_unit @ intrinsics
    inverse, _ = torch.linalg.inv_ex(intrinsics)

    relative = rotation.mT @ to_reference.mT
    project = torch.cat((intrinsics @ relative, -intrinsics @ rotation.mT @ offset), dim = -1)
    unproject = torch.cat((to_reference @ rotation @ inverse, to_reference @ offset), dim = -1)
    last = project.new_tensor([0., 0., 0., 1.]).expand(*project.shape[:2], 1, 4)
    return torch.cat((project, last), dim = -2), torch.cat((unproject, last), dim = -2)


def angles(height: int, width: int, dim_head: int, like: Tensor) -> Tensor:
    """Radians (h w dim_head / 4): of columns, then of rows."""
    count = dim_head // 8
    frequencies = ROTARY_BASE ** (-torch.arange(count, dtype = like.dtype, device = like.device) / count)
    rows, columns = (torch.arange(side, dtype = like.dtype, device = like.device)[:, None] * frequencies for side in (height, width))
    return torch.cat((columns.expand(height, -1, -1), rows[:, None].expand(-1, width, -1)), dim = -1)


# around the attention call

def place_queries(queries: Tensor, at: Tensor) -> Tensor:
    """(b n heads dim_head) of tokens at places (b n e)."""
    project, _, cos, sin = parts(at)
    return placed(queries, project.mT, cos, sin)


def place_keys_or_values(keys: Tensor, at: Tensor) -> Tensor:
    _, unproject, cos, sin = parts(at)
    return placed(keys, unproject, cos, sin)


def place_outputs(outputs: Tensor, at: Tensor) -> Tensor:
    project, _, cos, sin = parts(at)
    return placed(outputs, project, cos, -sin)


def parts(at: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    project, unproject, angles = at.tensor_split((16, 32), dim = -1)
    cos, sin = angles.unsqueeze(-2).chunk(2, dim = -1)
    return project.unflatten(-1, (4, 4)), unproject.unflatten(-1, (4, 4)), cos, sin


def placed(x: Tensor, matrix: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first half of (b n heads dim_head) by the matrices (b n 4 4), four and four, the second turned. In float32, and back in the dtype of x."""
    with without_autocast(x.device.type):
        projective, rotary = at_least_float32(x).chunk(2, dim = -1)
        projective = projective.unflatten(-1, (-1, 4)).flatten(2, 3) @ matrix.mT
        a, b = rotary.chunk(2, dim = -1)
        rotary = torch.cat((a * cos - b * sin, a * sin + b * cos), dim = -1)
        return torch.cat((projective.reshape(rotary.shape), rotary), dim = -1).to(x.dtype)
