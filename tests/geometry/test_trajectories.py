"""Where cameras go."""

from __future__ import annotations

import json
import math

import pytest
import torch
from conftest import random_rotation

from lvsm_pytorch.data import cameras_of, synthetic_scene
from lvsm_pytorch.geometry.conventions import opencv_to_opengl
from lvsm_pytorch.geometry.trajectories import interpolation, look_at, looked_at, orbit, orbit_poses, up_of
from lvsm_pytorch.inference.paths import read_path

UP = torch.tensor([0., 0., 1.])
INTRINSICS = torch.tensor([[50., 0., 20.], [0., 50., 15.], [0., 0., 1.]])


def around(azimuths, target = (1., 2., 3.), radius = 4., elevation = 0.4):
    """Cameras that look at a point from so many directions, in radians."""
    azimuths, target = torch.tensor(azimuths), torch.tensor(target)
    offset = torch.stack((azimuths.cos() * math.cos(elevation), azimuths.sin() * math.cos(elevation), torch.full_like(azimuths, math.sin(elevation))), dim = -1)
    return look_at(target + radius * offset, target, UP)


def angles(poses, target = (1., 2., 3.)):
    offset = poses[:, :3, 3] - torch.tensor(target)
    return torch.atan2(offset[:, 1], offset[:, 0]), torch.asin(offset[:, 2] / offset.norm(dim = -1)), offset.norm(dim = -1)


def test_the_focus_is_where_axes_meet():
    assert (looked_at(around([0., 0.5, 1., 2.])) - torch.tensor([1., 2., 3.])).norm() < 0.05
    parallel = torch.eye(4).repeat(3, 1, 1)
    parallel[:, 0, 3] = torch.tensor([-1., 0., 1.])
    assert torch.allclose(looked_at(parallel), torch.tensor([0., 0., 4.]), atol = 1e-3)
    outwards = look_at(torch.tensor([[-1., 0., 0.], [1., 0., 0.]]), torch.tensor([[-2., 4., 0.], [2., 4., 0.]]), UP)    # whose axes meet behind them
    assert looked_at(outwards)[1] > 1


def test_an_orbit_goes_all_around_where_cameras_stand_all_around():
    poses = orbit(around([0., math.pi / 2, math.pi, -math.pi / 2]), 36)
    azimuth, elevation, radius = angles(poses)
    assert torch.allclose(elevation, torch.tensor(0.4), atol = 0.02)
    assert torch.allclose(radius, torch.tensor(4.), atol = 0.1)
    steps = azimuth.diff().remainder(2 * math.pi)
    assert torch.allclose(steps, torch.tensor(2 * math.pi / 36), atol = 0.01)
    assert (torch.linalg.det(poses[:, :3, :3]) - 1).abs().max() < 1e-5
    towards = torch.tensor([1., 2., 3.]) - poses[:, :3, 3]
    assert (torch.nn.functional.normalize(towards, dim = -1) * poses[:, :3, 2]).sum(-1).min() > 0.999
    assert (poses[:, :3, 1] @ UP).max() < -0.8


@pytest.mark.parametrize('shift', [0., 3.])
def test_an_orbit_stays_where_cameras_are_and_comes_back(shift):
    azimuth, _, _ = angles(orbit(around([shift - 0.3, shift + 0.1, shift + 0.4]), 40))
    off = (azimuth - shift + math.pi).remainder(2 * math.pi) - math.pi
    assert off.min() == pytest.approx(-0.3, abs = 0.03)
    assert off.max() == pytest.approx(0.4, abs = 0.03)
    assert off.diff().abs().max() < 0.1
    assert abs(off[0] - off[-1]) < 0.1


def test_an_orbit_moves_with_the_world():
    poses = around([0., 0.5, 1.])
    rotation = random_rotation()
    moved = poses.clone()
    moved[:, :3, :3], moved[:, :3, 3] = rotation @ poses[:, :3, :3], 2 * poses[:, :3, 3] @ rotation.T + 5
    expected = orbit(poses, 12)
    assert torch.allclose(orbit(moved, 12)[:, :3, 3], 2 * expected[:, :3, 3] @ rotation.T + 5, atol = 1e-3)
    assert torch.allclose(orbit(moved, 12)[:, :3, :3], rotation @ expected[:, :3, :3], atol = 1e-3)


@pytest.mark.parametrize('count', [1, 2])
def test_few_cameras_have_an_orbit_too(count):
    assert orbit(around([0.2, 0.7][:count]), 10).isfinite().all()


def test_an_interpolation_goes_by_all_cameras_on_the_shortest_way():
    poses = orbit_poses(12, target = torch.zeros(3), radius = 2., up = UP)[[0, 4, 2, 3, 1]]
    path = interpolation(poses, 41)
    nearest = torch.cdist(poses[:, :3, 3], path[:, :3, 3]).min(dim = 1)
    assert nearest.values.max() < 1e-5
    assert nearest.indices.tolist() == [0, 40, 20, 30, 10]


# from files

def write(path, **content):
    path.write_text(json.dumps(content))
    return path


def test_a_path_is_read(tmp_path):
    poses = around([0., 1., 2.])
    found = read_path(write(tmp_path / 'path.json', camera_to_world = poses.tolist()), (30, 40), INTRINSICS)
    assert torch.allclose(found.cameras.camera_to_world.float(), poses)
    assert torch.equal(found.cameras.intrinsics, INTRINSICS.expand(3, 3, 3))
    assert found.size == (30, 40)
    assert found.fps is None

    own = torch.eye(3) * torch.tensor([[[2.]], [[3.]], [[4.]]])
    found = read_path(write(tmp_path / 'path.json', camera_to_world = poses.tolist(), intrinsics = own.tolist(), size = [10, 20], fps = 12), (30, 40), INTRINSICS)
    assert torch.equal(found.cameras.intrinsics, own)
    assert found.size == (10, 20)
    assert found.fps == 12


@pytest.mark.parametrize('applied', [False, True])
def test_a_path_of_nerfstudio_is_brought_back_into_the_world_of_the_photos(tmp_path, applied):
    poses = around([0., 1., 2.]).double()

    # as nerfstudio does it: COLMAP's world moved by ns-process-data, then by its dataparser, whose file counts both as its own

    move = torch.eye(4, dtype = torch.float64)
    move[:3, :3], move[:3, 3] = random_rotation(dtype = torch.float64), torch.randn(3, dtype = torch.float64)
    process = torch.eye(4, dtype = torch.float64)[[0, 2, 1, 3]] * torch.tensor([1., 1., -1., 1.], dtype = torch.float64).unsqueeze(-1)
    process = process if applied else torch.eye(4, dtype = torch.float64)
    theirs = move @ opencv_to_opengl(poses)
    theirs[:, :3, 3] *= 0.25
    write(tmp_path / 'dataparser_transforms.json', transform = (move @ process)[:3].tolist(), scale = 0.25)
    write(tmp_path / 'transforms.json', **(dict(applied_transform = process[:3].tolist()) if applied else {}))
    frames = [dict(camera_to_world = pose.flatten().tolist(), fov = 60., aspect = 2.) for pose in theirs]
    path = write(tmp_path / 'path.json', camera_path = frames, render_height = 100, render_width = 200, fps = 24)

    found = read_path(path, (30, 40), INTRINSICS, tmp_path)
    assert (found.cameras.camera_to_world - poses).abs().max() < 1e-5
    assert found.size == (100, 200)
    assert found.fps == 24
    focal = 50 / math.tan(math.radians(30))
    assert torch.allclose(found.cameras.intrinsics[0], torch.tensor([[focal, 0., 100.], [0., focal, 50.], [0., 0., 1.]]))
    (tmp_path / 'dataparser_transforms.json').unlink()
    with pytest.warns(UserWarning, match = 'dataparser_transforms.json with the transform from the photos is not beside it'):
        assert (read_path(path, (30, 40), INTRINSICS, tmp_path).cameras.camera_to_world - opencv_to_opengl(theirs)).abs().max() < 1e-6


@pytest.mark.parametrize('content, message', [
    ('{', 'path: must be interpolate, orbit, held-out or a readable JSON file'),
    ('{"a": 1}', 'path: must be a JSON object with camera_to_world'),
    ('{"camera_to_world": [[1, 2]]}', 'must have numbers n × 4 × 4 as camera_to_world'),
    ('{"camera_to_world": []}', 'must have finite numbers as camera_to_world, but got none'),
    ('{"camera_to_world": [[[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]], "intrinsics": [[[1,0,0],[0,1,0],[0,0,1]],[[1,0,0],[0,1,0],[0,0,1]]]}', 'must have one matrix of intrinsics, or as many as poses, 1, but got 2'),
    ('{"camera_path": [{"camera_to_world": [1]}]}', 'render_height'),
])
def test_what_is_no_path_is_named(tmp_path, content, message):
    (tmp_path / 'path.json').write_text(content)
    with pytest.raises(ValueError, match = message):
        read_path(tmp_path / 'path.json', (30, 40), INTRINSICS)


def test_up_is_what_level_cameras_say_however_they_are_pitched():
    """One-sided cameras that all look down: the mean of their own up leans over, by as much as they are pitched."""
    up = torch.tensor([0.2, -0.5, 0.84])
    up = up / up.norm()
    side = torch.linalg.cross(up, torch.tensor([1., 0., 0.]))
    poses = torch.stack([look_at(4 * (side + 0.3 * turn * torch.linalg.cross(side, up)) + 3 * up, torch.zeros(3), up) for turn in (-1., -0.4, 0.3, 1.)])
    assert up_of(poses) @ up > 0.999
    leaning = -poses[:, :3, 1].mean(dim = 0)
    assert leaning @ up / leaning.norm() < 0.9
    assert (up_of(poses[:1]) + poses[0, :3, 1]).abs().max() < 1e-3    # one camera alone has but its own


def test_an_orbit_of_level_cameras_stays_level():
    poses = cameras_of(synthetic_scene(4, num_views = 12).views).camera_to_world
    way = orbit(poses, 16)
    assert (way[:, 2, 3] - way[0, 2, 3]).abs().max() < 0.02 * way[:, :3, 3].norm(dim = -1).max()
