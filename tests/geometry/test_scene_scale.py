from __future__ import annotations

import pytest
import torch

from lvsm_pytorch.data.synthetic import synthetic_scenes
from lvsm_pytorch.geometry import Cameras
from lvsm_pytorch.geometry.cameras import move_poses
from lvsm_pytorch.geometry.scene_scale import MARGIN_OF_PLANES, UNIT_OF_NEAR, DepthRange, estimate_depth_range, match_distances, rescaled, scene_scale


@pytest.fixture(scope = 'module')
def scene():
    """Three views of solids on a ground; cameras are 3.3 to 4.2 units from the middle, and the solids reach 1.7 units out."""
    images, cameras = synthetic_scenes([3], num_views = 3, image_size = 128)
    return images[0], cameras[0]


def moved(cameras: Cameras, similarity: torch.Tensor) -> Cameras:
    return Cameras(move_poses(similarity, cameras.camera_to_world.double()), cameras.intrinsics)


def test_near_is_where_the_solids_are_and_far_where_the_ground_ends(scene):
    assert estimate_depth_range(*scene).far > 3.5
    assert 1.2 < estimate_depth_range(*scene).near < 3.5


@pytest.mark.parametrize('scale', [1e-3, 20., 1e5])
def test_scale_of_the_world_scales_the_distance(scene, scale):
    images, cameras = scene
    similarity = torch.diag(torch.tensor([scale, scale, scale, 1.], dtype = torch.float64))
    similarity[:3, 3] = torch.tensor([1e6, -2e6, 3.]) * scale  # far from the origin, as of UTM coordinates
    found = estimate_depth_range(images, moved(cameras, similarity))
    assert found == pytest.approx([scale * each for each in estimate_depth_range(*scene)], rel = 1e-3)


def test_intrinsics_of_another_image_size(scene):
    images, cameras = scene
    larger = torch.nn.functional.interpolate(images, scale_factor = 2., mode = 'nearest')
    intrinsics = cameras.intrinsics * torch.tensor([2., 2., 1.])[:, None]
    assert estimate_depth_range(larger, Cameras(cameras.camera_to_world, intrinsics)) == pytest.approx(estimate_depth_range(*scene), rel = 1e-3)


def test_a_frontal_wall_of_noise_is_where_it_is():
    """One camera moves sideways before a wall at a distance of 5 , orthogonal to its axis."""
    torch.manual_seed(0)
    wall = torch.nn.functional.interpolate(torch.rand(1, 3, 32, 32), size = (128, 128), mode = 'bicubic').clamp(0, 1)[0]
    focal, shift = 128., 8

    images = torch.stack((wall, wall.roll(-shift, dims = -1)))
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = shift * 5. / focal
    cameras = Cameras(poses, torch.tensor([[focal, 0., 64.], [0., focal, 64.], [0., 0., 1.]]).repeat(2, 1, 1))

    found = match_distances(images, cameras)
    matched = found.distances[found.weights > 0.3]
    assert len(matched) > 1000
    assert float((matched / 5).log().abs().median()) < 0.15  # steps of distances are 14 %, and rays to the corners are longer


def test_nothing_to_tell_by(scene):
    images, cameras = scene
    one = cameras[:1]
    assert estimate_depth_range(images[:1], one) is None
    assert estimate_depth_range(images, Cameras(cameras.camera_to_world[:1].expand(3, -1, -1), cameras.intrinsics)) is None
    assert estimate_depth_range(torch.full_like(images, 0.5), cameras) is None


def test_duplicate_views_do_not_hide_the_others(scene):
    images, cameras = scene
    twice = Cameras.cat((cameras, cameras[:1]))
    assert estimate_depth_range(torch.cat((images, images[:1])), twice).near == pytest.approx(estimate_depth_range(*scene).near, rel = 0.3)


def test_wrong_shapes(scene):
    images, cameras = scene
    with pytest.raises(ValueError, match = 'intrinsics'):
        estimate_depth_range(images, Cameras(cameras.camera_to_world, cameras.intrinsics[:2]))
    with pytest.raises(ValueError, match = 'at least one photo'):
        estimate_depth_range(images[:0], cameras[:0])


def test_planes_reach_beyond_the_range_on_both_sides():
    subject = DepthRange(10., 12.).with_margin()
    assert 7. < subject.near < 10.
    assert 12. < subject.far < 20.
    scene = DepthRange(1., 50.).with_margin()
    assert 1 / scene.near == pytest.approx(1 + MARGIN_OF_PLANES * (1 - 1 / 50))
    assert scene.far == float('inf')


def test_in_the_unit_of_a_scene_what_is_near_is_where_it_is_in_every_scene(scene):
    images, cameras = scene
    scale = scene_scale(images, cameras)
    unit = rescaled(cameras, scale.unit)
    assert estimate_depth_range(images, unit).near == pytest.approx(UNIT_OF_NEAR, rel = 1e-3)
    torch.testing.assert_close(scene_scale(images, unit).depth_range(1.), scale.depth_range(scale.unit), rtol = 1e-3, atol = 0)
    assert scale.planes == estimate_depth_range(images, cameras).with_margin()
    torch.testing.assert_close(unit.camera_to_world[:, :3, :3], cameras.camera_to_world[:, :3, :3])
    assert unit.intrinsics is cameras.intrinsics


def test_the_scale_of_photos_that_do_not_tell_is_that_of_their_cameras(scene):
    images, cameras = scene
    scale, larger = (scene_scale(torch.full_like(images, 0.5), each) for each in (cameras, rescaled(cameras, 1 / 7)))
    assert larger.unit == pytest.approx(7 * scale.unit, rel = 1e-4)
    assert scale.depth_range(scale.unit).tolist() == [0.5, float('inf')]


def test_margins_of_planes():
    found = DepthRange(2., 4.)
    assert found.with_margin(near = 1., far = 0.5) == pytest.approx((1 / (1 / 2 + 1 / 4), 1 / (1 / 4 - 1 / 8)))
    assert found.with_margin(far = float('inf')).far == float('inf')
    assert found.with_margin(far = 1.).far == float('inf')
