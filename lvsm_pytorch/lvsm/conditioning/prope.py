"""Attention by relative poses of cameras: Li et al. 2025, "Cameras as Relative Positional Encoding" (PRoPE).

With P_i the 4 × 4 projection of the camera of token i, the output of attention in one half of each head's dimensions is

    out_i = P_i Σ_j a_ij P_j⁻¹ v_j,    a_ij = softmax_j (P_iᵀ q_i · P_j⁻¹ k_j),

which does not depend on the world frame, since it contains only products P_i P_j⁻¹. The other half has `rotary` encodings of the column and the row
of the patch, so that attention depends only on their differences.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor

from lvsm_pytorch.lvsm.conditioning.base import CameraEncoding, camera_rays, first_pose, relative_poses, unit_intrinsics
from lvsm_pytorch.lvsm.conditioning.rotary import apply_rotary, cos_and_sin
from lvsm_pytorch.lvsm.views import Views
from lvsm_pytorch.precision import at_least_float32, in_float32, without_autocast


class Prope(CameraEncoding):
    """Camera encoding by PRoPE. A pose encoding consists of P and P⁻¹, row by row, then cosines and sines of the rotary angles."""
    needs_cameras = True
    ray_channels = 3
    dim_head_multiple = 8

    @staticmethod
    def rays(views: Views) -> Tensor:
        return camera_rays(views.rays, poses_of(views))

    @staticmethod
    def reference_pose(views: Views) -> Tensor:
        return first_pose(poses_of(views), views.has_rays)

    @staticmethod
    def encode_pose(views: Views, reference: Tensor | None, *, patch_size: int, dim_head: int) -> Tensor:
        """Returns pose encodings (b v h w 32 + dim_head / 2). Views without rays have the projection of the reference pose."""
        assert views.cameras is not None
        assert reference is not None
        height, width = views.rays.shape[-2:]
        project, unproject = projections(views.cameras.camera_to_world, views.cameras.intrinsics, reference, image_size = (height, width))
        has_rays = rearrange(views.has_rays, 'b v -> b v 1 1')
        identity = torch.eye(4, dtype = project.dtype, device = project.device)
        project, unproject = (torch.where(has_rays, each, identity) for each in (project, unproject))

        height, width = height // patch_size, width // patch_size
        of_views = repeat(torch.stack((project, unproject), dim = 2), 'b v two i j -> b v h w (two i j)', h = height, w = width)
        of_patches = cos_and_sin(height, width, dim_head // 8, project).expand(*of_views.shape[:2], -1, -1, -1)
        return torch.cat((of_views, of_patches), dim = -1)

    @staticmethod
    def transform_q(queries: Tensor, pose: Tensor) -> Tensor:
        project, _, cos, sin = parts(pose)
        return transform(queries, project.mT, cos, sin)

    @staticmethod
    def transform_kv(keys: Tensor, values: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        _, unproject, cos, sin = parts(pose)
        return transform(keys, unproject, cos, sin), transform(values, unproject, cos, sin)

    @staticmethod
    def transform_out(out: Tensor, pose: Tensor) -> Tensor:
        project, _, cos, sin = parts(pose)
        return transform(out, project, cos, -sin)


def poses_of(views: Views) -> Tensor:
    assert views.cameras is not None
    return views.cameras.camera_to_world


@in_float32
def projections(camera_to_world: Tensor, intrinsics: Tensor, reference: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns P and P⁻¹ (b v 4 4): the transform from the reference (b 4 4) to cameras (b v 4 4), then their intrinsics, for an image of side 1 centred at 0."""
    rotation, centre = relative_poses(camera_to_world, reference)
    centre = rearrange(centre, 'b v i -> b v i 1')

    intrinsics = unit_intrinsics(intrinsics, image_size, side = 1)
    inverse, _ = torch.linalg.inv_ex(intrinsics)

    project = torch.cat((intrinsics @ rotation.mT, -intrinsics @ rotation.mT @ centre), dim = -1)
    unproject = torch.cat((rotation @ inverse, centre), dim = -1)
    last = torch.eye(4, dtype = project.dtype, device = project.device)[3:].expand(*project.shape[:2], 1, 4)
    return torch.cat((project, last), dim = -2), torch.cat((unproject, last), dim = -2)


def parts(pose: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    project, unproject, angles = pose.tensor_split((16, 32), dim = -1)
    cos, sin = angles.unsqueeze(-2).chunk(2, dim = -1)
    return project.unflatten(-1, (4, 4)), unproject.unflatten(-1, (4, 4)), cos, sin


def transform(x: Tensor, matrix: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Transforms the first half of the dimensions of x (b n heads dim_head) by matrices (b n 4 4), in groups of four, and the second half by rotary embedding.

    Computes in float32, and returns the dtype of x.
    """
    with without_autocast(x.device.type):
        projective, rotary = at_least_float32(x).chunk(2, dim = -1)
        matrix, cos, sin = (t.to(projective.dtype) for t in (matrix, cos, sin))
        projective = projective.unflatten(-1, (-1, 4)).flatten(2, 3) @ matrix.mT
        rotary = apply_rotary(rotary, cos, sin)
        return torch.cat((projective.reshape(rotary.shape), rotary), dim = -1).to(x.dtype)
