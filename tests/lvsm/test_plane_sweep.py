"""The volume of a plane sweep. Models with it are in test_prope.py."""

from __future__ import annotations

import pytest
import torch
from conftest import known_cameras, random_rotation, tiny_model
from einops import rearrange
from plain_sweep import plain_sweep_volume
from torch.nn import functional as F

from lvsm_pytorch import MAE
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.rays import plucker_rays
from lvsm_pytorch.geometry.trajectories import look_at
from lvsm_pytorch.lvsm.conditioning.plane_sweep import PlaneSweep, sweep_volume
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.views import Views, mask_out_cameras

B, V, T, SIZE, DEPTHS, NEAREST = 2, 3, 2, (16, 24), 4, 0.75


def scene(v = V):
    """Images (b v 3 h w), their cameras, and directions and centres of targets."""
    cameras = known_cameras(B, v + T, size = SIZE)
    inputs, targets = cameras[:, :v], cameras[:, v:]
    directions = plucker_rays(*targets, image_size = SIZE)[:, :, :3]
    return torch.rand(B, v, 3, *SIZE), inputs, directions, targets.camera_to_world[..., :3, 3]


def look(images, cameras, directions, centres, has_rays = None, nearest = NEAREST):
    has_rays = torch.ones(images.shape[:2], dtype = torch.bool) if has_rays is None else has_rays
    return sweep_volume(images, *cameras, has_rays, directions, centres, num_depth_planes = DEPTHS, near_plane = nearest)


def farthest(one, other):
    return max((a - b).abs().max() for a, b in zip(one, other, strict = True))


def test_every_point_is_projected_into_every_view():
    images, cameras, directions, centres = scene()
    doubled = look(images.double(), cameras.to(torch.float64), directions.double(), centres.double())
    expected = plain_sweep_volume(images, cameras, directions, centres, DEPTHS, NEAREST)
    seen = expected.share > 1e-9
    assert 0.1 < seen.double().mean() < 0.9
    assert (doubled.share - expected.share).abs().max() < 1e-9
    assert ((doubled.colors - expected.colors) * seen).abs().max() < 1e-6
    assert ((doubled.spread - expected.spread) * seen).abs().max() < 1e-6


def test_on_a_surface_views_agree_with_the_target():
    """Which is here a textured sphere around the target, seen from within: at the depth of its radius, and nowhere else."""
    size, at = (64, 64), 2
    centre = torch.tensor([0.3, -0.2, 0.5])
    offsets = torch.tensor([[0.25, 0.1, 0.], [-0.15, 0.2, 0.1], [0.1, -0.25, -0.1]])
    radius = 0.4
    forward = torch.tensor([0., 5., 0.])
    poses = look_at(torch.cat((centre + offsets, centre.unsqueeze(0))), centre + forward, torch.tensor([0., 0., 1.]))
    intrinsics = torch.tensor([[24., 0., 32.], [0., 24., 32.], [0., 0., 1.]]).repeat(4, 1, 1)
    directions = plucker_rays(poses, intrinsics, size)[:, :3]

    # from c along d, |c + s d - centre| = radius

    c = rearrange(poses[:, :3, 3] - centre, 'v i -> v i 1 1')
    along = (c * directions).sum(1, keepdim = True)
    points = c + (-along + (along ** 2 - (c ** 2).sum(1, keepdim = True) + radius ** 2).sqrt()) * directions
    waves = torch.tensor([[2., 1., 2.], [-2., 1., 1.], [1., -3., 2.]]) / radius
    images = 0.5 + 0.4 * torch.einsum('k i, v i h w -> v k h w', waves, points).sin()

    inputs = Cameras(poses[None, :3], intrinsics[None, :3])
    found = look(images[None, :3], inputs, directions[None, 3:], centre.view(1, 1, 3), nearest = radius * at / (DEPTHS - 1))
    inner = (slice(None), slice(None), slice(None), slice(None), slice(26, 38), slice(26, 38))
    assert (found.share[inner][:, :, at] > 0.99).all()
    error = (found.colors - images[3]).abs()[inner].mean(dim = (0, 1, 3, 4, 5))
    spread = found.spread[inner].mean(dim = (0, 1, 3, 4, 5))
    assert error[at] < 2e-3
    assert spread[at] < 2e-3
    others = [depth for depth in range(DEPTHS) if depth != at]
    assert error[others].min() > 0.02
    assert spread[others].min() > 0.02


def test_where_the_world_is_does_not_matter_and_its_unit_is_that_of_depths():
    images, cameras, directions, centres = (t.to(torch.float64) for t in scene())
    expected = look(images, cameras, directions, centres)
    rotation = random_rotation(dtype = torch.float64)

    for unit, offset in ((1., 1000.), (100., 3.), (0.01, 0.)):
        poses = cameras.camera_to_world.clone()
        poses[..., :3, :3] = rotation @ poses[..., :3, :3]
        poses[..., :3, 3] = unit * poses[..., :3, 3] @ rotation.T + offset
        moved = look(images, Cameras(poses, cameras.intrinsics), torch.einsum('i j, b t j h w -> b t i h w', rotation, directions), unit * centres @ rotation.T + offset, nearest = unit * NEAREST)
        assert farthest(moved, expected) < 1e-7


def test_the_order_of_views_does_not_matter():
    images, cameras, directions, centres = scene()
    turned = look(images.flip(1), cameras.map(lambda t: t.flip(1)), directions, centres)
    assert farthest(turned, look(images, cameras, directions, centres)) < 1e-3  # near the border of an image, where rounding is divided by little


def test_unknown_views_do_not_exist():
    images, cameras, directions, centres = scene()
    expected = look(images[:, 1:], cameras[:, 1:], directions, centres)
    has_rays = torch.tensor([False, True, True]).expand(B, -1)
    found = look(torch.cat((torch.zeros_like(images[:, :1]), images[:, 1:]), dim = 1), mask_out_cameras(~has_rays, cameras), directions, centres, has_rays)
    assert farthest(found, expected) < 1e-3
    assert (found.share - expected.share).abs().max() < 1e-5
    nobody = look(images, cameras, directions, centres, torch.zeros(B, V, dtype = torch.bool))
    assert (nobody.share == 0).all()
    assert (nobody.colors == 0).all()


def test_what_lies_behind_a_camera_has_no_share():
    images, cameras, directions, centres = scene(v = 1)
    poses = cameras.camera_to_world.clone()
    poses[..., :3, 3] = centres[:, :1]
    for turn, is_seen in ((1., True), (-1., False)):
        away = poses.clone()
        away[..., :3, 2] = turn * directions[:, :1].mean(dim = (-2, -1))
        away[..., :3, :2] = torch.linalg.svd(away[..., :3, 2].unsqueeze(-2)).Vh.mT[..., 1:]
        found = look(images, Cameras(away, cameras.intrinsics), directions[:, :1], centres[:, :1])
        assert (found.share.mean() > 0.3) == is_seen
        assert found.share.any() == is_seen


def test_what_lies_exactly_behind_a_camera_has_no_share_either():
    """Where its image begins at its axis, there is the homogeneous pixel 0."""
    images, cameras = torch.ones(1, 1, 3, 8, 8), Cameras(torch.eye(4).view(1, 1, 4, 4), torch.diag(torch.tensor([8., 8., 1.])).view(1, 1, 3, 3))
    for ahead, share in ((1., 0.25), (-1., 0.)):
        directions = torch.tensor([0., 0., ahead]).view(1, 1, 3, 1, 1)
        assert (look(images, cameras, directions, torch.zeros(1, 1, 3)).share == share).all()


def test_views_from_one_place_have_one_depth():
    images, cameras, directions, centres = scene()
    poses = cameras.camera_to_world.clone()
    poses[..., :3, 3] = centres[:, :1]
    found = look(images, Cameras(poses, cameras.intrinsics), directions[:, :1], centres[:, :1])
    for each in found:
        torch.testing.assert_close(each[:, :, :1].expand_as(each), each, atol = 1e-3, rtol = 0)


def test_nothing_jumps_as_a_camera_moves():
    """Not where a point leaves an image either, but for the mean of a colour that no view has any more."""
    images, cameras, directions, centres = scene()
    images = F.interpolate(images.flatten(0, 1)[..., ::8, ::8], SIZE, mode = 'bilinear').unflatten(0, (B, V))
    path = [look(images, cameras, directions, centres + step * torch.tensor([1e-4, -1e-4, 1e-4])) for step in range(2)]
    assert (path[0].share - path[1].share).abs().max() < 0.02
    assert (path[0].share * path[0].colors - path[1].share * path[1].colors).abs().max() < 0.02
    assert path[0].share.min() == 0
    assert path[0].share.max() > 0.9


def test_what_is_swept_is_weighed_against_what_is_rendered():
    torch.manual_seed(0)
    sweep = PlaneSweep(8, patch_size = 4, channels = 3, num_depth_planes = DEPTHS, near_plane = NEAREST)
    images, cameras, directions, centres = scene()
    found = look(images, cameras, directions, centres)
    rendered, tokens = torch.rand(B, T, 3, *SIZE), torch.zeros(B, T, SIZE[0] // 4, SIZE[1] // 4, 8)

    # with no word of the tokens, each depth counts as much as what is rendered, times the share that sees it

    expected = (rendered + (found.share * found.colors).sum(2)) / (1 + found.share.sum(2))
    assert (sweep.composite(rendered, tokens, found.colors, found.share) - expected).abs().max() < 1e-6

    # a plane can win, pixel by pixel, where a view contains its point; where none does, the pixel is rendered

    torch.nn.init.constant_(sweep.to_weights.weight, -10.)
    of_patch = sweep.to_weights.weight.data.unflatten(0, (4, 4, DEPTHS))
    of_patch[1, 2, 3] = 10.
    views = sweep.composite(rendered, tokens + 1, found.colors, found.share)
    pixels = (..., slice(1, None, 4), slice(2, None, 4))
    share = found.share[:, :, 3]
    expected = torch.where(share > 0.01, found.colors[:, :, 3], rendered)
    assert 0.1 < (share > 0.01)[pixels].float().mean() < 0.9
    assert (share == 0)[pixels].any()
    assert ((views - expected).abs() * ((share > 0.01) | (share == 0)))[pixels].max() < 1e-4
    assert ((views - rendered).abs() * (found.share.sum(2) == 0)).max() == 0
    views[pixels] = rendered[pixels]
    assert (views - rendered).abs().max() < 1e-6


def test_tokens_take_in_their_own_patch_alone():
    sweep = PlaneSweep(8, patch_size = 4, channels = 3, num_depth_planes = DEPTHS, near_plane = NEAREST)
    images, cameras, directions, centres = scene()
    found = look(images, cameras, directions, centres)
    tokens = sweep.to_target_tokens(*found)
    for index, each in enumerate(found):
        other = list(found)
        other[index] = each.clone()
        other[index][..., 4:8, 8:12] *= 0.5
        changed = (sweep.to_target_tokens(*other) - tokens).abs().amax(dim = (0, 1, 4)) > 1e-6
        assert changed.nonzero().tolist() == [[1, 2]]


def test_any_number_of_channels_and_of_views():
    for channels, v in ((1, 1), (4, 5)):
        cameras = known_cameras(B, v + 1, size = SIZE)
        model = tiny_model(num_depth_planes = 2, channels = channels).eval()
        rays = plucker_rays(*cameras, image_size = SIZE)
        view = model(torch.rand(B, v, channels, *SIZE), rays[:, :v], rays[:, v], cameras = cameras)
        assert view.shape == (B, channels, *SIZE)
        assert 0 <= view.min() <= view.max() <= 1


def test_without_it_the_network_is_the_papers():
    assert not [name for name in tiny_model().state_dict() if 'sweep' in name]
    assert len(tiny_model(num_depth_planes = 2).state_dict()) == len(tiny_model().state_dict()) + 3


def test_photos_in_half_precision_are_sampled_in_float32():
    images, cameras, directions, centres = scene()
    sweep = PlaneSweep(8, patch_size = 4, channels = 3, num_depth_planes = DEPTHS, near_plane = NEAREST)
    target_cameras = Cameras(torch.eye(4).repeat(B, T, 1, 1), torch.eye(3).repeat(B, T, 1, 1))
    target_cameras.camera_to_world[..., :3, 3] = centres
    targets = Views(torch.cat((directions, torch.randn_like(directions)), dim = 2), cameras = target_cameras)

    def encoded(images):
        return EncodedScene(None, source = sweep.encode(Views(plucker_rays(*cameras, image_size = SIZE), images, cameras)))

    with torch.autocast('cpu', torch.bfloat16):
        found = sweep.sweep(targets, encoded(images))
        assert sweep.to_target_tokens(*found).dtype == torch.float32
    assert farthest(found, look(images, cameras, directions, centres)) == 0
    assert all(each.dtype == torch.float32 for each in sweep.sweep(targets, encoded(images.bfloat16())))


def test_mistakes_are_named():
    for wrong in (-1, 1.5, 'many'):
        with pytest.raises(ValueError, match = 'num_depth_planes: must be an integer of at least 0'):
            tiny_model(num_depth_planes = wrong)

    for wrong in (0, -1.):
        with pytest.raises(ValueError, match = 'near_plane: must be a length above 0'):
            tiny_model(num_depth_planes = 2, near_plane = wrong)

    model = tiny_model(num_depth_planes = 2)
    cameras = known_cameras(B, V + T, size = SIZE)
    rays, images = plucker_rays(*cameras, image_size = SIZE), torch.rand(B, V, 3, *SIZE)
    inputs, targets = cameras[:, :V], cameras[:, V:]
    with pytest.raises(ValueError, match = 'cameras: must be given to a model with num_depth_planes = 2, but got None'):
        model(images, rays[:, :V], rays[:, V:])
    with pytest.raises(ValueError, match = 'num_depth_planes: must be 0 for tokens'):
        MAE(model)(images, rays[:, :V], cameras = inputs)
    with pytest.raises(ValueError, match = 'scene: must be from encode\\(\\) of a model with num_depth_planes = 2'):
        model.render(tiny_model().encode(images, rays[:, :V], cameras = inputs), rays[:, V:], cameras = targets)
    with pytest.raises(ValueError, match = 'scene: must be from encode\\(\\) of a model with num_depth_planes = 0'):
        tiny_model().render(model.encode(images, rays[:, :V], cameras = inputs), rays[:, V:], cameras = targets)
