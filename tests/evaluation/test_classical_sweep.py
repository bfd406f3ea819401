"""The classical baseline: it finds a surface that views agree on, wherever the world is, and uses no view that doesn't see it."""

from __future__ import annotations

import pytest
import torch
from conftest import random_rotation

from lvsm_pytorch.evaluation.classical_sweep import best_plane_sweep, plane_sweep
from lvsm_pytorch.geometry.cameras import Cameras, pose
from lvsm_pytorch.lvsm.losses import psnr

SIZE, FOCAL, DEPTH = (40, 48), 40., 4.
INTRINSICS = torch.tensor([[FOCAL, 0., 24.], [0., FOCAL, 20.], [0., 0., 1.]])


def photo(centre):
    """Of a wall of coloured waves in the plane z = DEPTH, from a camera that looks along z."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing = 'ij')
    depth = DEPTH - centre[2]
    x, y = centre[0] + (x - 24) / FOCAL * depth, centre[1] + (y - 20) / FOCAL * depth
    waves = [torch.sin(a * x + b * y + c) for a, b, c in ((7, 3, 0), (2, 8, 1), (5, -6, 2))]
    return torch.stack(waves) * 0.4 + 0.5


def scene():
    """Three photos of the wall, the target between them, and the truth."""
    centres = torch.tensor([[-0.3, 0.1, 0.], [0.3, 0., 0.1], [0., -0.3, -0.1]])
    target = torch.tensor([0.02, 0.03, 0.05])
    images = torch.stack([photo(centre) for centre in centres])
    return images, Cameras(pose(torch.eye(3).expand(3, 3, 3), centres), INTRINSICS.expand(3, 3, 3)), Cameras(pose(torch.eye(3), target), INTRINSICS), photo(target)


def moved(cameras, world):
    return Cameras((world @ cameras.camera_to_world.double()), cameras.intrinsics)


def test_a_wall_is_recovered_where_a_copy_is_not():
    images, cameras, target, truth = scene()
    found = psnr(best_plane_sweep(images, cameras, target, truth), truth)
    assert found > 30
    assert found > psnr(images, truth).max() + 10
    assert psnr(plane_sweep(images, cameras, target, (2., 20.)), truth) > 30
    assert psnr(plane_sweep(images, cameras, target, (0.1, 1.)), truth) < 20    # nothing is there


def test_views_behind_are_not_used():
    images, cameras, target, _ = scene()
    expected = plane_sweep(images, cameras, target, (2., 20.))
    back = pose(torch.diag(torch.tensor([-1., 1., -1.])), torch.tensor([0., 0., -0.5]))
    more = Cameras(torch.cat((cameras.camera_to_world, back[None])), INTRINSICS.expand(4, 3, 3))
    torch.testing.assert_close(plane_sweep(torch.cat((images, torch.zeros_like(images[:1]))), more, target, (2., 20.)), expected)

    # nor in the pixel that is on the optical axis of both

    centred = INTRINSICS + torch.tensor([[0., 0., 0.5], [0., 0., 0.5], [0., 0., 0.]])
    opposite = torch.stack((torch.eye(4), pose(torch.diag(torch.tensor([-1., 1., -1.])), torch.tensor([0., 0., -0.5]))))
    found = plane_sweep(torch.stack((torch.ones(3, 41, 49), torch.zeros(3, 41, 49))), Cameras(opposite, centred.expand(2, 3, 3)), Cameras(torch.eye(4), centred), (2., 20.))
    assert torch.allclose(found, torch.ones_like(found))

    # of a scene in front of no view, all that is known is its mean colour

    alone = Cameras(back[None], INTRINSICS[None])
    assert torch.allclose(plane_sweep(images[:1], alone, target, (2., 20.)), images[0].mean(dim = (1, 2))[:, None, None].expand(3, *SIZE))


def test_planes_that_no_view_shows_have_no_weight():
    """Views that overlap little: what one shows at some depths alone is not mixed with the black of the others."""
    images, _, target, _ = scene()
    far_left = pose(torch.eye(3), torch.tensor([-3.2, 0., 0.]))
    found = plane_sweep(torch.full_like(images[:1], 0.7), Cameras(far_left[None], INTRINSICS[None]), target, (1., 40.))
    assert torch.allclose(found, torch.full_like(found, 0.7), atol = 1e-5)


def test_it_does_not_depend_on_the_world():
    images, cameras, target, truth = scene()
    expected = best_plane_sweep(images, cameras, target, truth)
    world = pose(random_rotation(dtype = torch.float64), torch.tensor([3e4, -1e4, 2e4], dtype = torch.float64))
    scale = torch.diag(torch.tensor([7., 7., 7., 1.], dtype = torch.float64))
    assert torch.allclose(best_plane_sweep(images, moved(cameras, world), moved(target, world), truth), expected, atol = 1e-3)

    def scaled(cameras):
        poses = cameras.camera_to_world.double().clone()
        poses[..., :3, 3] = poses[..., :3, 3] @ scale[:3, :3]
        return Cameras(poses, cameras.intrinsics)

    assert torch.allclose(best_plane_sweep(images, scaled(cameras), scaled(target), truth), expected, atol = 1e-3)


def test_cameras_in_one_place_give_the_turned_photo():
    image, rotation = photo(torch.zeros(3)), torch.tensor([[0., -1., 0.], [1., 0., 0.], [0., 0., 1.]])
    intrinsics = torch.tensor([[FOCAL, 0., 20.], [0., FOCAL, 20.], [0., 0., 1.]])
    square = image[..., 4:44]
    camera, target = Cameras(pose(rotation, torch.zeros(3))[None], intrinsics[None]), Cameras(pose(torch.eye(3), torch.zeros(3)), intrinsics)
    expected = square.rot90(-1, dims = (1, 2))
    assert torch.allclose(best_plane_sweep(square[None], camera, target, expected), expected, atol = 1e-4)


@pytest.mark.parametrize('depth_range', [(0., 1.), (2., 1.), (-1., 1.)])
def test_a_range_that_is_none_is_named(depth_range):
    images, cameras, target, _ = scene()
    with pytest.raises(ValueError, match = 'depth_range: must be'):
        plane_sweep(images, cameras, target, depth_range)
    with pytest.raises(ValueError, match = 'num_planes: must be at least 2'):
        plane_sweep(images, cameras, target, (1., 2.), num_planes = 1)
    with pytest.raises(ValueError, match = 'camera_to_world'):
        plane_sweep(images[:2], cameras, target, (1., 2.))
