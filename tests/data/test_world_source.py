"""Procedural worlds as training samples."""

from __future__ import annotations

import pytest
import torch

from lvsm_pytorch.data.world_source import WorldSource, jittered_planes, small_rotations
from lvsm_pytorch.geometry import plucker_rays
from lvsm_pytorch.geometry.scene_scale import UNIT_OF_NEAR, DepthRange


def make_source(**changes):
    return WorldSource(**{**dict(num_inputs = 2, num_targets = 2, image_size = 16), **changes})


@pytest.fixture(scope = 'module')
def source():
    return make_source(random_num_inputs = (2, 4), samples_per_step = 2)


def test_a_sample_is_a_function_of_its_number(source):
    again = make_source(random_num_inputs = (2, 4), samples_per_step = 2)
    again.sample(3)
    one, other = source.sample(5), again.sample(5)
    assert one.names == other.names
    torch.testing.assert_close(one.images, other.images)
    torch.testing.assert_close(one.cameras.camera_to_world, other.cameras.camera_to_world)
    assert source.sample(6).names != one.names or not torch.equal(source.sample(6).images, one.images)


def test_number_of_inputs_is_drawn_for_each_step(source):
    counts = [source.sample(number).num_inputs for number in range(24)]
    assert counts[::2] == counts[1::2]
    assert set(counts) == {2, 3, 4}
    batch = source.collate([source.sample(0), source.sample(1)])
    assert batch.input_images.shape == (2, counts[0], 3, 16, 16)
    assert batch.target_images.shape == (2, 2, 3, 16, 16)
    assert batch.target_distances.shape == (2, 2, 16, 16)


def test_what_is_near_is_at_about_the_unit(source):
    near = []

    for number in range(40):
        sample = source.sample(number)
        distances = sample.distances[0, :sample.num_inputs]
        near.append(torch.quantile(distances[distances.isfinite()], 0.05))
        planes = sample.depth_range[0]
        assert 0 < planes[0] < 1.05 * near[-1]
        assert planes[1] > near[-1]

    near = torch.stack(near) / UNIT_OF_NEAR
    assert 0.85 < near.median() < 1.15
    assert near.max() / near.min() > 1.3  # estimates are off, and models should not mind


def test_held_out_worlds_are_exact(source):
    """Without augmentation: points of the first input, by its distances, are where the target has the same distances to them."""
    views = source.held_out(3)
    assert views.names == ['world 0', 'world 1', 'world 2']
    assert views.images.shape == (3, 3, 3, 16, 16)
    rays = plucker_rays(*views.cameras, image_size = (16, 16))
    points = views.cameras.camera_to_world[:, 0, :3, 3, None, None] + rays[:, 0, :3] * views.distances[:, 0, None]
    agreeing = total = 0

    for scene in range(3):
        pose, intrinsics = (t[scene, 2] for t in views.cameras)
        local = torch.einsum('ij, ihw -> jhw', pose[:3, :3], points[scene] - pose[:3, 3, None, None])
        pixel = torch.einsum('ij, jhw -> ihw', intrinsics, local)
        x, y = ((pixel[i] / pixel[2]).nan_to_num(-1, -1, -1) for i in range(2))
        inside = (pixel[2] > 0) & (x >= 0) & (x < 16) & (y >= 0) & (y < 16) & local.norm(dim = 0).isfinite()
        there = views.distances[scene, 2][y[inside].long(), x[inside].long()]
        agreeing += ((there / local.norm(dim = 0)[inside] - 1).abs() < 0.1).sum()
        total += inside.sum()

    assert total > 200
    assert agreeing / total > 0.7


def test_training_and_held_out_worlds_are_others(source):
    names = {source.sample(number).names[0] for number in range(40)}
    assert not names & {f'world {seed}' for seed in range(WorldSource.NUM_HELD_OUT)}


def test_planes_hold_the_range_that_they_are_jittered_about():
    generator = torch.Generator().manual_seed(0)
    drawn = [jittered_planes(DepthRange(2., 3.), generator) for _ in range(50)]
    assert all(planes.near < 2 and planes.far > 3 for planes in drawn)
    assert len({planes.near for planes in drawn}) > 30
    assert 5 < sum(planes.far == float('inf') for planes in drawn) < 30


def test_small_rotations_are_rotations():
    torch.manual_seed(0)
    axis_angle = torch.randn(4, 3, dtype = torch.float64) * 0.01
    rotations = small_rotations(axis_angle)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3, dtype = torch.float64).expand(4, 3, 3))
    angle = ((rotations.diagonal(dim1 = -2, dim2 = -1).sum(dim = -1) - 1) / 2).acos()
    torch.testing.assert_close(angle, axis_angle.norm(dim = -1), rtol = 1e-4, atol = 0)
    torch.testing.assert_close((rotations @ axis_angle.unsqueeze(-1)).squeeze(-1), axis_angle)
