"""A plane sweep of learned features: what it looks up, how distances are drawn, and that nothing depends on the world or on padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lvsm_pytorch.geometry import Cameras, plucker_rays
from lvsm_pytorch.geometry.conventions import quaternion_to_rotation
from lvsm_pytorch.geometry.trajectories import look_at
from lvsm_pytorch.lvsm import LVSM
from lvsm_pytorch.lvsm.conditioning.feature_sweep import CELL, inverse_distance
from lvsm_pytorch.lvsm.conditioning.warping import Rays, projections, quantiles, warp

HEIGHT, WIDTH = 16, 24


def make_model(**changes):
    torch.manual_seed(0)
    return LVSM(**{**dict(
        dim = 32, max_image_size = 24, patch_size = 8, depth = 1, dim_head = 16, camera_encoding = 'prope', input_attends_target = False, num_depth_planes = 6, plane_sweep = 'features',
    ), **changes}).eval()


def make_cameras(batch: int = 2, views: int = 5, seed: int = 0) -> Cameras:
    torch.manual_seed(seed)
    eye = torch.randn(batch, views, 3) * 0.3
    poses = look_at(eye, torch.tensor([0., 0., 3.]).expand_as(eye), torch.tensor([0., -1., 0.]))
    intrinsics = torch.tensor([[20., 0., WIDTH / 2], [0., 20., HEIGHT / 2], [0., 0., 1.]]).expand(batch, views, 3, 3)
    return Cameras(poses, intrinsics)


@pytest.fixture
def views():
    """Images and cameras of three inputs and two targets."""
    cameras = make_cameras()
    return torch.rand(2, 3, 3, HEIGHT, WIDTH), cameras


def rays_of(cameras: Cameras):
    return plucker_rays(*cameras, image_size = (HEIGHT, WIDTH))


def rendered(model, images, cameras, **options):
    rays = rays_of(cameras)
    n = images.shape[1]
    return model(images, rays[:, :n], rays[:, n:], cameras = cameras, **options)


def test_a_frontal_wall_is_looked_up_where_it_is():
    """A camera that moves sideways by 4 pixels before a wall at a distance of 2 finds its view of the wall at depth 2 alone."""
    torch.manual_seed(0)
    wall = F.interpolate(torch.rand(1, 1, 8, 16), size = (32, 64), mode = 'bicubic')
    focal, depth, shift = 32., 2., 4
    intrinsics = torch.tensor([[focal, 0., 16.], [0., focal, 16.], [0., 0., 1.]]).expand(1, 2, 3, 3)
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, 0, 3] = shift * depth / focal
    source, target = wall[..., :32], wall[..., shift:32 + shift]

    rays = plucker_rays(poses[:, 1:], intrinsics[:, 1:], (32, 32))
    to_wall = rays[:, :, 2:3] / depth  # inverse distances along the rays
    inverse = torch.cat((to_wall, 2 * to_wall, 0 * to_wall), dim = 2)
    warped, angle = warp(source.unsqueeze(1), projections(poses[:, :1], intrinsics[:, :1], (32, 32)), Rays(poses[:, 1:, :3, 3], rays[:, :, :3]), inverse)

    at_wall, nearer, farther = ((warped[0, 0, 0, 0, e] - target[0, 0]).abs()[:, :-shift].mean() for e in range(3))
    assert at_wall < 1e-4
    assert min(nearer, farther) > 0.05
    assert warped[0, 0, 0, 0, 0, :, -shift:].abs().max() < 1e-4  # beyond the border of the source
    assert angle[0, 0, 0, 0, 2].max() < 0.01  # the same direction to what is infinitely far
    assert angle[0, 0, 0, 0, 1].mean() > angle[0, 0, 0, 0, 0].mean() > 0.01


def test_what_is_behind_an_input_view_is_not_visible():
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, :3, :3] = torch.diag(torch.tensor([-1., 1., -1.]))
    intrinsics = torch.tensor([[8., 0., 8.], [0., 8., 8.], [0., 0., 1.]]).expand(1, 2, 3, 3)
    rays = plucker_rays(poses[:, 1:], intrinsics[:, 1:], (16, 16))
    warped, _ = warp(torch.ones(1, 1, 1, 16, 16), projections(poses[:, :1], intrinsics[:, :1], (16, 16)), Rays(poses[:, 1:, :3, 3], rays[:, :, :3]), torch.full((1, 1, 1, 16, 16), 0.5))
    assert warped.abs().max() == 0


def test_quantiles_are_those_of_the_histogram():
    torch.manual_seed(0)
    probability = torch.rand(1, 7, 2, 3).softmax(dim = 1)
    position, plane = quantiles(probability, 4)
    edges = torch.cat((torch.zeros(1, 1, 2, 3), probability.cumsum(dim = 1)), dim = 1)

    for k in range(4):
        whole = (position[:, k] + 0.5).floor().clamp(max = 6).long()
        below = edges.gather(1, whole.unsqueeze(1))[:, 0] + probability.gather(1, whole.unsqueeze(1))[:, 0] * (position[:, k] + 0.5 - whole)
        inner = (position[:, k] > 0) & (position[:, k] < 6)
        assert inner.any()
        torch.testing.assert_close(below[inner], torch.full_like(below, (k + 0.5) / 4)[inner], rtol = 0, atol = 1e-5)

    assert (position.diff(dim = 1) >= 0).all()
    assert ((position - plane).abs() <= 0.5 + 1e-6).all()


def test_samples_of_a_certain_distance_lie_around_its_plane():
    probability = torch.zeros(1, 9, 1, 1)
    probability[0, 5] = 1
    position, plane = quantiles(probability, 6)
    assert (plane == 5).all()
    assert (position - 5).abs().max() <= 0.5


def test_weights_of_a_run_that_has_diverged_give_a_loss_that_is_no_number(views):
    """And no error: the training loop skips such a step, and says so."""
    images, cameras = views
    model = make_model()
    torch.nn.init.constant_(model.to_target_tokens.weight, torch.nan)
    rays = rays_of(cameras)
    assert model(images, rays[:, :3], rays[:, 3:], images[:, :2], cameras = cameras).isnan()


def test_planes_are_even_in_inverse_distance():
    inverse = inverse_distance(torch.tensor([[0., 2.], [0.5, 1.]]), torch.linspace(0, 1, 3))
    torch.testing.assert_close(inverse, torch.tensor([[0., 1., 2.], [0.5, 0.75, 1.]]))


def test_views_are_in_range_and_of_the_targets_shape(views):
    images, cameras = views
    with torch.no_grad():
        pred = rendered(make_model(), images, cameras)
    assert pred.shape == (2, 2, 3, HEIGHT, WIDTH)
    assert pred.min() >= 0
    assert pred.max() <= 1


@pytest.mark.parametrize('input_attends_target', [False, True])
def test_encode_and_render_are_forward(views, input_attends_target):
    images, cameras = views
    model, rays = make_model(input_attends_target = input_attends_target), rays_of(cameras)
    with torch.no_grad():
        scene = model.encode(images, rays[:, :3], cameras = cameras[:, :3], depth_range = torch.tensor([[1., 9.], [2., torch.inf]]))
        views = model.render(scene, rays[:, 3:], cameras = cameras[:, 3:], chunk_size = 1)
        expected = rendered(model, images, cameras, depth_range = torch.tensor([[1., 9.], [2., torch.inf]]))
    torch.testing.assert_close(views, expected, rtol = 0, atol = 1e-5)


def test_moving_the_world_changes_nothing(views):
    images, cameras = views
    similarity = torch.eye(4)
    similarity[:3, :3] = quaternion_to_rotation(torch.tensor([0.9, 0.2, -0.3, 0.1]))
    similarity[:3, 3] = torch.tensor([1., -2., 0.5])
    model = make_model()
    with torch.no_grad():
        torch.testing.assert_close(rendered(model, images, cameras.transform(similarity)), rendered(model, images, cameras), rtol = 0, atol = 1e-4)


def test_padding_may_hold_anything(views):
    images, cameras = views
    model, rays = make_model(), rays_of(cameras)
    padded, padded_rays = images.clone(), rays.clone()
    padded[:, 2], padded_rays[:, 2] = torch.nan, torch.nan
    poses = cameras.camera_to_world.clone()
    poses[:, 2] = torch.nan
    with torch.no_grad():
        pred = model(padded, padded_rays[:, :3], rays[:, 3:], num_input_images = torch.tensor([2, 2]), cameras = Cameras(poses, cameras.intrinsics))
        fewer = [0, 1, 3, 4]
        expected = rendered(model, images[:, :2], cameras[:, fewer])
    torch.testing.assert_close(pred, expected, rtol = 0, atol = 1e-4)


def test_order_of_the_inputs_does_not_matter(views):
    images, cameras = views
    model, order = make_model(), torch.tensor([2, 0, 1, 3, 4])
    with torch.no_grad():
        torch.testing.assert_close(rendered(model, images[:, order[:3]], cameras[:, order]), rendered(model, images, cameras), rtol = 0, atol = 1e-4)


def test_targets_do_not_depend_on_each_other(views):
    images, cameras = views
    model = make_model()
    with torch.no_grad():
        both = rendered(model, images, cameras)
        torch.testing.assert_close(rendered(model, images, cameras[:, [0, 1, 2, 4]])[:, 0], both[:, 1], rtol = 0, atol = 1e-5)


def test_depth_range_places_the_planes(views):
    images, cameras = views
    model = make_model()
    with torch.no_grad():
        default = rendered(model, images, cameras)
        as_default = rendered(model, images, cameras, depth_range = torch.tensor([[0.5, torch.inf]] * 2))
        other = rendered(model, images, cameras, depth_range = torch.tensor([[2., 4.]] * 2))
    torch.testing.assert_close(as_default, default, rtol = 0, atol = 1e-6)
    assert (other - default).abs().max() > 1e-3


@pytest.mark.parametrize('depth_range', [torch.tensor([[4., 2.], [1., 2.]]), torch.tensor([[0., 2.], [1., 2.]]), torch.ones(2, 3)])
def test_depth_ranges_that_are_none(views, depth_range):
    images, cameras = views
    with pytest.raises(ValueError, match = 'depth_range'):
        rendered(make_model(), images, cameras, depth_range = depth_range)


def test_depth_loss_is_least_at_the_truth(views):
    """With the true distances at one plane, the loss of a distribution that has this plane is below that of any other."""
    images, cameras = views
    model, rays = make_model(), rays_of(cameras)
    depth_range = torch.tensor([[1., torch.inf]] * 2)
    n = model.num_depth_planes
    distances = torch.full((2, 2, HEIGHT, WIDTH), (n - 1) / 3.)  # plane 3 of 0 .. n - 1
    sweep = model.plane_sweep
    losses = []

    for plane in range(n):
        sweep.depth_logits = lambda tokens, volume, plane = plane: F.one_hot(torch.tensor(plane), n).view(1, n, 1, 1).expand(4, n, HEIGHT // CELL, WIDTH // CELL) * 9.
        with torch.no_grad():
            losses.append(float(model(images, rays[:, :3], rays[:, 3:], torch.rand(2, 2, 3, HEIGHT, WIDTH), cameras = cameras, depth_range = depth_range, target_distances = distances, return_loss_breakdown = True)[1].depth))

    assert min(range(n), key = losses.__getitem__) == 3
    assert losses[3] < 0.01


def test_every_weight_learns_also_of_sky(views):
    images, cameras = views
    model, rays = make_model().train(), rays_of(cameras)
    torch.nn.init.normal_(model.plane_sweep.refine[-1].weight, std = 0.1)
    distances = torch.rand(2, 2, HEIGHT, WIDTH) * 3 + 1
    distances[..., :4] = torch.inf
    loss = model(images, rays[:, :3], rays[:, 3:], torch.rand(2, 2, 3, HEIGHT, WIDTH), cameras = cameras, target_distances = distances)
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().max() == 0] == []


def test_patches_of_whole_cells():
    with pytest.raises(ValueError, match = 'patch_size'):
        make_model(patch_size = 6, max_image_size = 24)
