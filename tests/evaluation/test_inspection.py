from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from lvsm_pytorch.data import Scene, View, read_scene, synthetic_scene, write_colmap, write_lvsm, write_transforms
from lvsm_pytorch.evaluation.epipolar import FLIP, MISTAKES, Agreement, Matches, compare, epipolar_distances, swapped
from lvsm_pytorch.evaluation.inspection import inspect, upright
from lvsm_pytorch.geometry.cameras import Cameras


@pytest.fixture(scope = 'module')
def scene():
    """Views near enough to each other for features to be matched."""
    return synthetic_scene(3, num_views = 16, image_size = 192)


def verdict(scene):
    return compare(scene, num_pairs = 8).agreement.verdict


def changed(scene, change):
    return replace(scene, views = tuple(replace(view, **change(view)) for view in scene.views))


WRONG = {
    'the y and z axes': lambda view: dict(camera_to_world = view.camera_to_world.double() @ FLIP),
    r'poses are inverted \(world': lambda view: dict(camera_to_world = torch.linalg.inv(view.camera_to_world)),
    'poses are inverted, and the y': lambda view: dict(camera_to_world = torch.linalg.inv(view.camera_to_world.double() @ FLIP)),
}


def test_right_cameras_agree(scene):
    found, matches, cameras, photos, sizes = compare(scene, num_pairs = 8)
    assert found.verdict == 'cameras agree with the images'
    assert found.given < 1 < 3 < found.shifted
    assert found.num_matches == sum(len(each.points) for each in matches) > 50
    assert cameras.camera_to_world.shape == (16, 4, 4)
    assert len(photos) == len(sizes) >= 8
    assert set(sizes) == {(192, 192)}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_poses_are_named(scene, name):
    assert re.match(f'WRONG: {name}', verdict(changed(scene, WRONG[name])))


def test_cameras_turned_by_chance_are_found_and_not_explained(scene):
    def turned(view):
        angle = torch.tensor(0.3 * (-1) ** int(view.name))
        turn = torch.eye(4)
        turn[:2, :2] = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
        turn[0, 3] = 0.5 * torch.rand(())
        return dict(camera_to_world = view.camera_to_world @ turn)

    assert verdict(changed(scene, turned)) == 'cameras do NOT agree with the images; none of the usual mistakes explains it'


@pytest.mark.parametrize('name', ['boruszyn', 'buddha', 'brighton'])
def test_mistakes_in_real_photos_are_named(shared, name):
    right = read_scene(shared / 'scenes' / name)
    assert verdict(right) == 'cameras agree with the images'
    assert verdict(changed(right, lambda view: dict(camera_to_world = view.camera_to_world.double() @ FLIP))).startswith('WRONG: the y and z axes')
    assert verdict(changed(right, lambda view: dict(camera_to_world = torch.linalg.inv(view.camera_to_world)))).startswith('WRONG: poses are inverted (world')
    assert verdict(changed(right, lambda view: dict(intrinsics = swapped(view.intrinsics)))).startswith('WRONG: width and height')


def test_photos_without_features_have_no_verdict():
    grey = View('a', torch.eye(4), torch.tensor([[20., 0., 16.], [0., 20., 16.], [0., 0., 1.]]), lambda: torch.full((3, 32, 32), 0.5))
    scene = Scene('grey', tuple(replace(grey, name = str(index)) for index in range(3)))
    assert verdict(scene) == 'unknown, too few matches (0)'
    assert verdict(replace(scene, views = scene.views[:1])) == 'unknown, too few matches (0)'


def test_distances_to_epipolar_lines_are_in_pixels():
    """Cameras side by side: lines are rows, and a point 3 rows off is 3 pixels off."""
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = 1.
    cameras = Cameras(poses, torch.tensor([[30., 0., 20.], [0., 30., 10.], [0., 0., 1.]]).repeat(2, 1, 1))
    points = torch.tensor([[5., 6.], [20., 10.]], dtype = torch.float64)
    others = points + torch.tensor([[-4., 0.], [-2., 3.]])
    assert torch.allclose(epipolar_distances(Matches(0, 1, points, others), cameras), torch.tensor([0., 3.], dtype = torch.float64), atol = 1e-6)
    same_place = replace(cameras, camera_to_world = torch.eye(4).repeat(2, 1, 1))
    assert len(epipolar_distances(Matches(0, 1, points, others), same_place)) == 0


def test_verdicts():
    others = dict.fromkeys(MISTAKES, 50.)
    assert Agreement(0.3, 20., others, 29).verdict.startswith('unknown, too few')
    assert Agreement(0.3, 20., others, 30).verdict.startswith('cameras agree')
    assert 'NOT' in Agreement(15., 20., others, 100).verdict
    assert Agreement(15., 20., {**others, next(iter(MISTAKES)): 0.4}, 100).verdict.startswith('WRONG: the y and z')


def test_cameras_that_look_down_stand_upright(scene):
    """Held level, their x axes lie flat, however far down they look; and they look along y."""
    poses = upright(pose_in_a_turned_world(torch.stack([view.camera_to_world for view in scene.views])))
    right, down, forward = poses[:, :3, :3].unbind(dim = -1)
    assert right[:, 2].abs().max() < 5e-3
    assert (down[:, 2] < 0).all()
    assert forward.mean(dim = 0)[0].abs() < 1e-5
    assert (forward[:, 1] > 0).all()


def pose_in_a_turned_world(poses):
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator = torch.Generator().manual_seed(0)))
    motion = torch.eye(4)
    motion[:3, :3] = rotation * torch.linalg.det(rotation)
    return motion @ poses


def test_a_dataset_is_inspected_and_drawn(tmp_path, scene, capsys):
    write_lvsm([replace(scene, views = scene.views[:6]), replace(synthetic_scene(1, num_views = 1, image_size = 32), name = 'single')], tmp_path / 'data')
    found = inspect(tmp_path / 'data', tmp_path / 'cameras.png', pairs = 2)
    assert len(found) == 2
    printed = capsys.readouterr().out
    assert "LVSM authors' JSON, 2 scenes" in printed
    assert 'synthetic-3: 6 views of a video' in printed
    assert 'single: 1 view of a video' in printed
    assert 'too few matches' in printed
    with Image.open(tmp_path / 'cameras.png') as file:
        assert min(file.size) > 500


@pytest.mark.slow
def test_the_command(tmp_path, scene):
    write_transforms(replace(scene, views = scene.views[:4]), tmp_path / 'data')
    command = [sys.executable, '-W', 'ignore', '-c', 'from lvsm_pytorch.cli import main; main()', 'inspect']
    result = subprocess.run([*command, '--data', str(tmp_path / 'data'), '--out', str(tmp_path / 'a'), '--pairs', '2'], capture_output = True, text = True)
    assert result.returncode == 0, result.stderr
    assert 'verdict' in result.stdout
    assert (tmp_path / 'a/cameras.png').exists()
    for arguments, message in ((['--data', str(tmp_path / 'nowhere')], 'lvsm: data: must be a transforms.json'), (['--data', str(tmp_path / 'data'), '--pairs', '0'], 'lvsm: pairs: must be at least 1')):
        result = subprocess.run([*command, *arguments], capture_output = True, text = True)
        assert result.returncode != 0
        assert message in result.stderr


def test_a_dataset_with_nothing_usable_is_an_error(tmp_path, scene):
    write_colmap(replace(scene, views = scene.views[:2]), tmp_path)
    for path in (tmp_path / 'images').iterdir():
        path.write_bytes(b'none')
    with pytest.warns(UserWarning, match = 'skipped'), pytest.raises(ValueError, match = 'data: must have at least one scene that can be used'):
        inspect(tmp_path, tmp_path / 'cameras.png')
