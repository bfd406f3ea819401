"""Which views are near a camera."""

from __future__ import annotations

import math

import torch
from conftest import known_cameras, random_rotation

from lvsm_pytorch.geometry.cameras import pose
from lvsm_pytorch.geometry.view_selection import nearest_views


def turned(degrees):
    angle = torch.tensor(math.radians(degrees))
    return torch.stack((torch.stack((angle.cos(), torch.tensor(0.), angle.sin())), torch.tensor([0., 1., 0.]), torch.stack((-angle.sin(), torch.tensor(0.), angle.cos()))))


def test_distance_and_angle_count_relative_to_their_medians():
    """Of five cameras at distances 1 to 5 (median 3) that are turned by so many degrees (median 20)."""
    places = torch.tensor([[1., 0., 0.], [2., 0., 0.], [3., 0., 0.], [4., 0., 0.], [5., 0., 0.]])
    degrees = 70, 20, 30, 10, 5
    cameras = pose(torch.stack([turned(each) for each in degrees]), places)
    costs = [distance / 3 + angle / 20 for distance, angle in zip((1, 2, 3, 4, 5), degrees, strict = True)]
    expected = sorted(range(5), key = costs.__getitem__)
    assert expected == [1, 3, 4, 2, 0]
    assert nearest_views(cameras, torch.eye(4), 5) == expected
    assert nearest_views(cameras, torch.eye(4), 2) == expected[:2]
    assert nearest_views(cameras, torch.eye(4), 9) == expected


def test_the_unit_and_place_of_the_world_do_not_matter():
    cameras = known_cameras(20).camera_to_world.double()
    expected = nearest_views(cameras[1:], cameras[0], 6)
    world = pose(random_rotation(dtype = torch.float64), torch.randn(3, dtype = torch.float64) * 100)
    scaled = world @ cameras
    scaled[:, :3, 3] *= 1000
    assert nearest_views(scaled[1:], scaled[0], 6) == expected


def test_cameras_that_look_alike_go_by_distance_and_those_in_one_place_by_angle():
    rails = pose(torch.eye(3).expand(4, 3, 3), torch.tensor([[3., 0., 0.], [1., 0., 0.], [4., 0., 0.], [2., 0., 0.]]))
    assert nearest_views(rails, torch.eye(4), 3) == [1, 3, 0]
    tripod = pose(torch.stack([turned(each) for each in (30, 10, 40, 20)]), torch.zeros(4, 3))
    assert nearest_views(tripod, torch.eye(4), 3) == [1, 3, 0]
