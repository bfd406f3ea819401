"""Worlds to learn photos from: the same for the same seed, and of one geometry in all views."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.data.worlds.objects import BOUNDS, QUADRICS, Draw, turns
from lvsm_pytorch.data.worlds.rendering import RenderedWorlds, render_worlds
from lvsm_pytorch.data.worlds.scenery import make_world
from lvsm_pytorch.data.worlds.textures import NUM_PATTERNS, bank, look_up
from lvsm_pytorch.data.worlds.tracing import enter, leave_shell
from lvsm_pytorch.geometry import plucker_rays

SEEDS = range(16)


@pytest.fixture(scope = 'module')
def rendered() -> RenderedWorlds:
    return render_worlds(SEEDS, num_views = 3, image_size = 48)


def test_shapes_and_ranges(rendered):
    images, (camera_to_world, intrinsics), distance = rendered
    s, size = len(SEEDS), 48
    assert images.shape == (s, 3, 3, size, size)
    assert camera_to_world.shape == (s, 3, 4, 4)
    assert intrinsics.shape == (s, 3, 3, 3)
    assert distance.shape == (s, 3, size, size)
    assert images.min() >= 0
    assert images.max() <= 1
    assert not distance.isnan().any()
    assert distance.min() > 0.01

    rotation = camera_to_world[..., :3, :3]
    assert torch.allclose(rotation.mT @ rotation, torch.eye(3).expand_as(rotation), atol = 1e-4)
    assert torch.allclose(rotation.det(), torch.ones(s, 3), atol = 1e-4)


def test_a_world_is_a_function_of_its_seed(rendered):
    again = render_worlds([5], num_views = 3, image_size = 48)
    torch.testing.assert_close(again.distance[0], rendered.distance[5])
    assert torch.allclose(again.images[0], rendered.images[5], atol = 1e-4)
    assert not torch.allclose(rendered.images[0], rendered.images[1], atol = 0.01)


def test_the_first_views_are_the_same_whatever_their_number(rendered):
    fewer = render_worlds([3, 4], num_views = 1, image_size = 48)
    torch.testing.assert_close(fewer.cameras.camera_to_world, rendered.cameras.camera_to_world[3:5, :1])
    torch.testing.assert_close(fewer.distance, rendered.distance[3:5, :1])
    assert torch.allclose(fewer.images, rendered.images[3:5, :1], atol = 1e-4)


def test_intrinsics_scale_with_the_picture():
    small, large = (render_worlds([7], num_views = 2, image_size = size) for size in (16, 48))
    assert torch.allclose(small.cameras.intrinsics[..., :2, :] * 3, large.cameras.intrinsics[..., :2, :])
    assert torch.equal(small.cameras.camera_to_world, large.cameras.camera_to_world)


def seen_from(rendered: RenderedWorlds, source: int, target: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of the pixels of one view: the distance at which another should see them, that at which it sees something, the least of those around it, both colours there; (s n ...)."""
    (images, (camera_to_world, intrinsics), distance), size = rendered, rendered.images.shape[-1]
    rays = plucker_rays(camera_to_world[:, source], intrinsics[:, source], (size, size))
    points = camera_to_world[:, source, :3, 3, None] + rearrange(rays[:, :3] * distance[:, source, None].clamp(max = 1e6), 's i h w -> s i (h w)')
    local = camera_to_world[:, target, :3, :3].mT @ (points - camera_to_world[:, target, :3, 3, None])
    pixel = intrinsics[:, target] @ local
    place = rearrange(pixel[:, :2] / pixel[:, 2:].clamp(min = 1e-6), 's i n -> s 1 n i') / size * 2 - 1
    place = torch.where(rearrange(local[:, 2] > 0, 's n -> s 1 n 1'), place, 9.)

    def sampled(picture: Tensor, mode: str = 'bilinear') -> Tensor:
        return rearrange(F.grid_sample(picture, place, mode = mode, align_corners = False), 's c 1 n -> s n c')

    inside = (place.abs() < 0.98).all(dim = -1).squeeze(1) & (distance[:, source].flatten(1) < 1e5)
    there = distance[:, target, None].clamp(max = 1e6)
    seen, nearest = sampled(there)[..., 0], sampled(-F.max_pool2d(-there, 3, 1, 1), 'nearest')[..., 0]
    return torch.where(inside, local.norm(dim = 1), torch.nan), seen, nearest, rearrange(images[:, source], 's c h w -> s (h w) c'), sampled(images[:, target])


def test_views_agree_on_geometry_and_colors(rendered):
    """Points of one view, found again in another at their distance, have the same colour there, up to exposure, highlights and resampling."""
    for source, target in ((0, 1), (1, 0), (2, 1)):
        expected, seen, nearest, color, color_there = seen_from(rendered, source, target)
        agrees = (expected - seen).abs() < 0.005 * expected

        # what is in the picture of the other is seen there or hidden by something nearer, but for things thinner than a pixel
        in_view = ~expected.isnan()
        unexplained = (in_view & (expected < 0.995 * nearest)).float().sum() / in_view.float().sum()
        assert unexplained < 0.02

        assert agrees.float().mean() > 0.3
        error = (color - color_there).abs().mean(dim = -1)
        shuffled = (color - color_there.flip(1)).abs().mean(dim = -1)
        assert error[agrees].mean() < 0.05
        assert error[agrees].mean() < 0.35 * shuffled[agrees].mean()


def test_views_overlap(rendered):
    """Neighbours see much of the same, and nobody stands before a wall or looks at the sky alone."""
    expected, seen, *_ = seen_from(rendered, 0, 1)
    shared = ((expected - seen).abs() < 0.02 * expected).float().mean(dim = -1)
    assert shared.median() > 0.5
    assert (shared > 0.1).float().mean() > 0.9
    assert (rendered.distance.isinf().float().mean(dim = (-2, -1)) < 0.9).float().mean() > 0.95


@pytest.mark.parametrize('shape', range(len(QUADRICS)))
def test_rays_enter_primitives(shape):
    """Against a march along the rays in small steps."""
    generator = torch.Generator().manual_seed(shape)
    origin = F.normalize(torch.randn(200, 3, generator = generator), dim = -1) * 4
    ray = F.normalize(torch.rand(200, 3, generator = generator) * 2.4 - 1.2 - origin, dim = -1)
    quadric, bounds = torch.tensor(QUADRICS[shape]).expand(200, 5), torch.tensor(BOUNDS[shape]).expand(200, 6)
    distance = enter(quadric, bounds, origin, ray.unsqueeze(-1), torch.inf)[:, 0]

    steps = torch.linspace(0, 8, 4001)
    points = origin[:, None] + steps[:, None] * ray[:, None]
    inside = ((quadric[0, :3] * points ** 2).sum(dim = -1) + 2 * quadric[0, 3] * points[..., 2] + quadric[0, 4] <= 0) & (points >= bounds[0, :3]).all(dim = -1) & (points <= bounds[0, 3:]).all(dim = -1)
    marched = torch.where(inside.any(dim = -1), steps[inside.float().argmax(dim = -1)], torch.inf)
    same = (distance == marched) | ((distance - marched).abs() < 0.003)

    # a march steps over slivers
    assert same.float().mean() > 0.96
    assert distance.isfinite().float().mean() > 0.3


def test_no_camera_is_in_a_primitive():
    for seed in range(8):
        primitives, *_, views = make_world(seed)
        eyes = views.camera_to_world[:, :3, 3]
        local = torch.einsum('kij,vkj->vki', primitives.axes, eyes[:, None] - primitives.centers)
        inside = (local.abs() < primitives.half_sizes).all(dim = -1) & primitives.present
        assert not inside.any()


def test_textures_are_prefiltered():
    """At the last level only the mean is left, which is what all levels have in common."""
    pattern = torch.arange(0, NUM_PATTERNS, 9)
    u, v = torch.rand(2, len(pattern), generator = torch.Generator().manual_seed(0))
    coarse = look_up(pattern, u, v, torch.full(pattern.shape, 20.))
    mean = rearrange(bank(torch.device('cpu')).float() / 255, '(n t) c -> n t c', n = NUM_PATTERNS)[pattern, :128 ** 2].mean(dim = 1)
    assert torch.allclose(coarse, mean, atol = 0.02)
    assert torch.allclose(look_up(pattern, u, v, torch.zeros(len(pattern))), look_up(pattern, u + 3, v - 2, torch.zeros(len(pattern))), atol = 1e-2)


def test_random_rotations_are_rotations():
    rotation = torch.cat((Draw(0).rotations(9), turns(torch.linspace(0, 6, 9))))
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol = 1e-5)
    assert torch.allclose(rotation.det(), torch.ones(18), atol = 1e-5)


def test_a_device_can_be_told():
    there = render_worlds([1], num_views = 1, image_size = 8, device = 'cpu')
    assert torch.equal(there.images, render_worlds([1], num_views = 1, image_size = 8).images)


@pytest.mark.parametrize('arguments, message', [
    (dict(seeds = []), 'seeds: must be one or more integers from 0'),
    (dict(seeds = [-1]), 'seeds: must be one or more integers from 0'),
    (dict(seeds = [0.5]), 'seeds: must be one or more integers from 0'),
    (dict(num_views = 0), 'num_views: must be from 1 to 32, but got 0'),
    (dict(num_views = 33), 'num_views: must be from 1 to 32, but got 33'),
    (dict(image_size = 0), 'image_size: must be at least 1, but got 0'),
])
def test_errors_say_what_to_do(arguments, message):
    with pytest.raises(ValueError, match = message):
        render_worlds(**{**dict(seeds = [0], num_views = 1, image_size = 8), **arguments})


@pytest.mark.parametrize('zero', [0., -0.])
def test_rays_along_a_face_leave_the_shell_in_front(zero):
    shell = torch.tensor([[[-8., -8., -8.], [8., 8., 8.]]])
    ray = torch.tensor([[[0.6], [zero], [0.8]]])
    distance, face = leave_shell(shell, torch.tensor([[2., 3., 1.]]), ray)
    assert distance.item() == pytest.approx(7 / 0.8)
    assert face.item() == 5
