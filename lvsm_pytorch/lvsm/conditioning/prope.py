"""Attention that sees how cameras lie to each other: Li et al. 2025, "Cameras as Relative Positional Encoding" (PRoPE).

With P_i the 4 × 4 projection of the camera of token i, a token reads in one half of each head's dimensions

    out_i = P_i Σ_j a_ij P_j⁻¹ v_j,    a_ij = softmax_j (P_iᵀ q_i · P_j⁻¹ k_j),

of which nothing depends on the world, since only products P_i P_j⁻¹ come up. In the other half, `rotary` encodings of the
patch's column and row see to it that there too only differences count.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor

from lvsm_pytorch.lvsm.conditioning.base import CameraEncoding, in_reference
from lvsm_pytorch.lvsm.conditioning.rotary import apply_rotary, cos_and_sin
from lvsm_pytorch.precision import at_least_float32, in_float32, without_autocast


class Prope(CameraEncoding):
    """See above. Of each token's place: P and P⁻¹, row by row, then cosines and sines of the angles."""
    dim_head_multiple = 8

    @staticmethod
    def asked(queries: Tensor, at: Tensor) -> Tensor:
        project, _, cos, sin = parts(at)
        return placed(queries, project.mT, cos, sin)

    @staticmethod
    def known(keys: Tensor, values: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        _, unproject, cos, sin = parts(at)
        return placed(keys, unproject, cos, sin), placed(values, unproject, cos, sin)

    @staticmethod
    def read(out: Tensor, at: Tensor) -> Tensor:
        project, _, cos, sin = parts(at)
        return placed(out, project, cos, -sin)

    @staticmethod
    @in_float32
    def places(directions: Tensor, camera_to_world: Tensor, intrinsics: Tensor, reference: Tensor, has_rays: Tensor | None, *, patch_size: int, dim_head: int) -> Tensor:
        """(b v h w 32 + dim_head / 2). Views without rays have the projection of the reference."""
        height, width = directions.shape[-2:]
        project, unproject = projections(camera_to_world, intrinsics, reference, (height, width))

        if has_rays is not None:
            has_rays = rearrange(has_rays.to(project.device), 'b v -> b v 1 1')
            identity = torch.eye(4, dtype = project.dtype, device = project.device)
            project, unproject = (torch.where(has_rays, each, identity) for each in (project, unproject))

        height, width = height // patch_size, width // patch_size
        of_views = repeat(torch.stack((project, unproject), dim = 2), 'b v two i j -> b v h w (two i j)', h = height, w = width)
        of_patches = cos_and_sin(height, width, dim_head // 8, project).expand(*of_views.shape[:2], -1, -1, -1)
        return torch.cat((of_views, of_patches), dim = -1)


def projections(camera_to_world: Tensor, intrinsics: Tensor, reference: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """P and P⁻¹ (b v 4 4): from the reference (b 4 4) to cameras (b v 4 4), and by their intrinsics into an image of side 1 around 0."""
    height, width = image_size
    rotation, centre = in_reference(camera_to_world, reference)
    centre = rearrange(centre, 'b v i -> b v i 1')

    to_unit = intrinsics.new_tensor([[1 / width, 0., -0.5], [0., 1 / height, -0.5], [0., 0., 1.]])
    intrinsics = to_unit @ intrinsics
    inverse, _ = torch.linalg.inv_ex(intrinsics)

    project = torch.cat((intrinsics @ rotation.mT, -intrinsics @ rotation.mT @ centre), dim = -1)
    unproject = torch.cat((rotation @ inverse, centre), dim = -1)
    last = project.new_tensor([0., 0., 0., 1.]).expand(*project.shape[:2], 1, 4)
    return torch.cat((project, last), dim = -2), torch.cat((unproject, last), dim = -2)


def parts(at: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    project, unproject, angles = at.tensor_split((16, 32), dim = -1)
    cos, sin = angles.unsqueeze(-2).chunk(2, dim = -1)
    return project.unflatten(-1, (4, 4)), unproject.unflatten(-1, (4, 4)), cos, sin


def placed(x: Tensor, matrix: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first half of (b n heads dim_head) by the matrices (b n 4 4), four and four, the second by rotary embedding. In float32, and back in the dtype of x."""
    with without_autocast(x.device.type):
        projective, rotary = at_least_float32(x).chunk(2, dim = -1)
        matrix, cos, sin = (t.to(projective.dtype) for t in (matrix, cos, sin))
        projective = projective.unflatten(-1, (-1, 4)).flatten(2, 3) @ matrix.mT
        rotary = apply_rotary(rotary, cos, sin)
        return torch.cat((projective.reshape(rotary.shape), rotary), dim = -1).to(x.dtype)
