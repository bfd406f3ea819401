"""Rays that ask, and points that tokens guess: the parts of `RayPoints`, beside geometry said plainly."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from lvsm_pytorch.camera_encoding import camera_rays, reference_of
from lvsm_pytorch.cameras import Cameras, orbit_poses, plucker_rays
from lvsm_pytorch.points import MOST_LOG_DEPTH, RayPoints, coefficients, monomials

DIM, HEADS, DIM_HEAD = 32, 3, 16


def tokens(size = (64, 64), patch_size = 8, has_rays = None):
    """(at, x) of two scenes with three views from around, one unit away."""
    poses = orbit_poses(3, target = torch.zeros(2, 3), radius = 1., up = torch.tensor([0., 0., 1.]))
    intrinsics = torch.diag(torch.tensor([1.2 * size[1], 1.2 * size[1], 1.])).repeat(2, 3, 1, 1)
    intrinsics[..., :2, 2] = torch.tensor([size[1] / 2, size[0] / 2])
    cameras = Cameras(poses, intrinsics)
    reference = reference_of(cameras.camera_to_world, has_rays)
    at = RayPoints.places(camera_rays(plucker_rays(*cameras, size), cameras.camera_to_world, has_rays), *cameras, reference, has_rays, patch_size = patch_size, dim_head = DIM_HEAD)
    at = rearrange(at, 'b v h w e -> b (v h w) e')
    torch.manual_seed(0)
    return at, torch.randn(*at.shape[:2], DIM)


def encoding(std = 0.1):
    torch.manual_seed(0)
    made = RayPoints(DIM, heads = HEADS, dim_head = DIM_HEAD)
    torch.nn.init.normal_(made.to_log_depth.weight, std = std)
    return made


def of_heads(t):
    return t.transpose(1, 2)


def joined(made, at, x, dtype = torch.float32):
    """Queries, keys and values without any content, but for what the encoding adds."""
    nothing = torch.zeros(*x.shape[:2], HEADS, DIM_HEAD, dtype = dtype)
    asked, known = made.asked(nothing, at), made.known(nothing, nothing, x, at)
    return made.joined(tuple(map(of_heads, asked)), tuple(map(of_heads, known))), known[2]


def distances_in_patches(at, points):
    """(b h i j), squared: of points (b n heads 4) to rays, by the cross product."""
    centre, frame = at[..., 10:13].double(), at[..., 13:22].double()
    way = of_heads(points[..., :3]).double().unsqueeze(2) - centre[:, None, :, None]
    along = frame[..., 6:][:, None, :, None].expand_as(way)
    return torch.linalg.cross(way, along).square().sum(-1) * of_heads(points[..., 3:]).double().transpose(2, 3)


def test_a_form_and_a_point_give_the_squared_distance():
    direction, centre, point = F.normalize(torch.randn(5, 3, dtype = torch.float64), dim = -1), torch.randn(5, 3, dtype = torch.float64), torch.randn(5, 3, dtype = torch.float64)
    across = torch.eye(3, dtype = torch.float64) - direction.unsqueeze(-1) * direction.unsqueeze(-2)
    across = torch.cat((across, -across @ centre.unsqueeze(-1)), dim = -1)
    found = (coefficients(across.mT @ across) * monomials(F.pad(point, (0, 1), value = 1.))).sum(-1)
    assert torch.allclose(found, torch.linalg.cross(point - centre, direction).square().sum(-1))


@pytest.mark.parametrize('dtype, most', [(torch.float32, 5e-3), (torch.bfloat16, 0.3), (torch.float16, 5e-3)])
def test_scores_fall_with_the_squared_distance_in_any_precision(dtype, most):
    """At 32 patches across, with the sharpest of heads, and depths that differ by a half."""
    at, x = tokens(size = (64, 256))
    made = encoding(0.03)
    (q, k, v), points = joined(made, at, x, dtype)
    assert q.dtype == k.dtype == v.dtype == (torch.float32 if dtype == torch.float16 else dtype)
    assert q.shape[-1] % 8 == 0
    scores = q.double() @ k.double().mT * DIM_HEAD ** -0.5
    expected = -made.log_sharpness.double().exp().view(-1, 1, 1) * distances_in_patches(at, points)
    near = expected > -20    # what has any weight
    assert near.any(dim = -1).all()
    assert (scores - expected)[near].abs().max() < most


def test_depths_are_guessed_within_bounds_and_begin_at_one_unit():
    at, x = tokens()
    made = RayPoints(DIM, heads = HEADS, dim_head = DIM_HEAD)

    def depths():
        nothing = torch.zeros(*x.shape[:2], HEADS, DIM_HEAD)
        points = made.known(nothing, nothing, x, at)[2][..., :3]
        return (points - at[..., None, 10:13]).norm(dim = -1)

    assert torch.allclose(depths(), torch.ones(()), atol = 1e-5)
    torch.nn.init.normal_(made.to_log_depth.weight, std = 1e3)
    found = depths().log()
    assert found.abs().max() <= MOST_LOG_DEPTH + 1e-4
    assert found.min() < -3.9
    assert found.max() > 3.9


def test_what_is_read_is_where_the_mean_point_lies_as_the_token_sees_it():
    """Of attention that is all on one point: how many patches beside the ray, and how deep."""
    at, _ = tokens()
    made = encoding()
    right, down, along, angle = at[..., 13:16], at[..., 16:19], at[..., 19:22], at[..., 22:23]
    assert torch.allclose(torch.linalg.cross(right, down), along, atol = 1e-6)
    point = at[..., 10:13] + 2. * along + angle * (3. * right - 0.5 * down)
    out = torch.zeros(*at.shape[:2], HEADS, DIM_HEAD + 8)
    out[..., DIM_HEAD:DIM_HEAD + 4] = F.pad(point, (0, 1), value = 1.).unsqueeze(2)
    read, added = made.read(out, at)
    assert read.shape[-1] == DIM_HEAD
    expected = made.from_offset(torch.tensor([3., -0.5, 2.]).asinh().repeat(HEADS))
    assert torch.allclose(added, expected.expand_as(added), atol = 1e-4)


def test_a_token_without_a_ray_is_near_to_all_and_has_no_point():
    has_rays = torch.tensor([[True, False, True], [True, True, True]])
    at, x = tokens(has_rays = has_rays)
    made = encoding()
    (q, k, v), _ = joined(made, at, x)
    scores = (q @ k.mT)[0]
    there = has_rays[0].repeat_interleave(64)
    assert torch.equal(scores[:, :, ~there], torch.zeros_like(scores[:, :, ~there]))
    assert torch.equal(scores[:, ~there], torch.zeros_like(scores[:, ~there]))
    assert (scores[:, there][:, :, there] < 0).float().mean() > 0.9
    assert not v[0, :, ~there].any()
    assert (v[0, :, there][..., DIM_HEAD + 3] == 1).all()
