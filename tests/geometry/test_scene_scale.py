from __future__ import annotations

import pytest
import torch

from lvsm_pytorch.data.synthetic import synthetic_scenes
from lvsm_pytorch.geometry import Cameras
from lvsm_pytorch.geometry.cameras import move_poses
from lvsm_pytorch.geometry.scene_scale import match_distances, near_distance


@pytest.fixture(scope = 'module')
def scene():
    """Three views of solids on a ground; cameras are 3.3 to 4.2 units from the middle, and the solids reach 1.7 units out."""
    images, cameras = synthetic_scenes([3], num_views = 3, image_size = 128)
    return images[0], cameras[0]


def moved(cameras: Cameras, similarity: torch.Tensor) -> Cameras:
    return Cameras(move_poses(similarity, cameras.camera_to_world.double()), cameras.intrinsics)


def test_what_is_near_is_where_the_solids_are(scene):
    assert 1.2 < near_distance(*scene) < 3.5


@pytest.mark.parametrize('scale', [1e-3, 20., 1e5])
def test_scale_of_the_world_scales_the_distance(scene, scale):
    images, cameras = scene
    similarity = torch.diag(torch.tensor([scale, scale, scale, 1.], dtype = torch.float64))
    similarity[:3, 3] = torch.tensor([1e6, -2e6, 3.]) * scale  # far from the origin, as of UTM coordinates
    assert near_distance(images, moved(cameras, similarity)) == pytest.approx(scale * near_distance(*scene), rel = 1e-3)


def test_intrinsics_of_another_image_size(scene):
    images, cameras = scene
    larger = torch.nn.functional.interpolate(images, scale_factor = 2., mode = 'nearest')
    intrinsics = cameras.intrinsics * torch.tensor([2., 2., 1.])[:, None]
    assert near_distance(larger, Cameras(cameras.camera_to_world, intrinsics)) == pytest.approx(near_distance(*scene), rel = 1e-3)


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
    one = Cameras(*(t[:1] for t in cameras))
    assert near_distance(images[:1], one) is None
    assert near_distance(images, Cameras(cameras.camera_to_world[:1].expand(3, -1, -1), cameras.intrinsics)) is None
    assert near_distance(torch.full_like(images, 0.5), cameras) is None


def test_duplicate_views_do_not_hide_the_others(scene):
    images, cameras = scene
    twice = Cameras(*(torch.cat((t, t[:1])) for t in cameras))
    assert near_distance(torch.cat((images, images[:1])), twice) == pytest.approx(near_distance(*scene), rel = 0.3)


def test_wrong_shapes(scene):
    images, cameras = scene
    with pytest.raises(ValueError, match = 'intrinsics'):
        near_distance(images, Cameras(cameras.camera_to_world, cameras.intrinsics[:2]))
    with pytest.raises(ValueError, match = 'at least one photo'):
        near_distance(images[:0], Cameras(*(t[:0] for t in cameras)))
