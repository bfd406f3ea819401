"""A scene to walk around in."""

from __future__ import annotations

import math
from dataclasses import replace
from threading import Lock

import pytest
import torch
from conftest import tiny_model

from lvsm_pytorch import synthesize
from lvsm_pytorch.data import cameras_of, synthetic_scene
from lvsm_pytorch.geometry.cameras import Cameras, move_poses
from lvsm_pytorch.lvsm.pretrained import TrainedFor
from lvsm_pytorch.viewer.session import SECONDS_A_VIEW, ResolutionController, Stage, ViewerCamera

SIZE = 16, 24


def model_for(attends):
    torch.manual_seed(1)
    model = tiny_model(num_depth_planes = 2, input_attends_target = attends, max_image_size = 64)
    model.trained_for = TrainedFor('inputs', SIZE, 2)
    return model.eval()


@pytest.fixture
def stage():
    return Stage(model_for(False), synthetic_scene(3, num_views = 7, image_size = 24), SIZE, Lock())


@pytest.mark.parametrize('attends', [True, False])
def test_a_view_is_that_of_synthesize(stage, attends):
    seen = [stage.scene.views[number] for number in stage.inputs(2)]
    camera = ViewerCamera(stage.shown[4], stage.fov, 24 / 16)
    intrinsics = seen[0].intrinsics - torch.tensor([[0., 0., 0.], [0., 0., 4.], [0., 0., 0.]])    # cut from 24 × 24
    unit = 1 / float(stage.to_shown[:3, :3].norm(dim = 0).mean())
    expected = synthesize(model_for(attends), [view.load() for view in seen], cameras_of(seen), Cameras(stage.scene.views[4].camera_to_world, intrinsics), (16, 24), unit = unit)
    assert (stage.render(camera, (16, 24), 2, attends) - expected).abs().max() < 1e-4


def test_a_window_shows_as_much_as_a_photo_in_as_many_pixels(stage):
    for aspect in (0.5, 1., 1.5, 2.4):
        camera = ViewerCamera(stage.shown[0], stage.fov_of_window(aspect), aspect)
        height, width = stage.whole_size(camera)
        assert height * width == pytest.approx(16 * 24, rel = 0.1)
        assert width / height == pytest.approx(aspect, rel = 0.1)
        focal = height / 2 / math.tan(camera.fov / 2)
        assert focal == pytest.approx(float(stage.scene.views[0].intrinsics[0, 0]), rel = 0.05)


def test_a_camera_may_look_away_from_everything(stage):
    away = torch.eye(4)
    away[:3, 3] = 100.
    away[:3, :3] = torch.diag(torch.tensor([-1., 1., -1.])) @ stage.shown[0, :3, :3]
    for pose in (away, torch.eye(4)):
        view = stage.render(ViewerCamera(pose, 1., 1.), (16, 16), 3, False)
        assert view.isfinite().all()
        assert view.min() >= 0
        assert view.max() <= 1


def test_the_nearest_photo_is_found(stage):
    inputs = stage.inputs(2)
    for number in range(7):
        nearest = stage.nearest(ViewerCamera(stage.shown[number], 1., 1.), 2)
        assert nearest.view is stage.scene.views[number]
        assert nearest.is_input == (number in inputs)


def test_photos_are_read_once_however_often_one_looks(stage):
    loads = []
    views = tuple(replace(view, load = lambda view = view: loads.append(view.name) or view.load()) for view in stage.scene.views)
    counted = Stage(stage.model, replace(stage.scene, views = views), stage.size, stage.lock)
    for _ in range(3):
        counted.render(ViewerCamera(counted.shown[0], 1., 1.), (16, 16), 3, False)
    assert len(loads) == 3


def test_a_path_goes_through_all_looks(stage):
    keyframes = [ViewerCamera(pose, 1., 1.) for pose in stage.shown[:3]]
    way = stage.path(keyframes, 4, (16, 16)).camera_to_world
    assert len(way) == 9
    expected = cameras_of(stage.scene.views).camera_to_world[:3]
    assert (way[::4] - expected).abs().max() < 1e-4
    assert len(stage.path(keyframes[:1], 4, (16, 16)).camera_to_world) == 1


def test_the_unit_and_place_of_a_world_change_nothing_that_is_shown(stage):
    elsewhere = torch.eye(4, dtype = torch.float64) * 7.
    elsewhere[:, 3] = torch.tensor([3., -2., 5., 1.])
    views = tuple(replace(view, camera_to_world = move_poses(elsewhere, view.camera_to_world.double()).float()) for view in stage.scene.views)
    moved = Stage(stage.model, replace(stage.scene, views = views), stage.size, stage.lock)
    assert (moved.shown - stage.shown).abs().max() < 1e-4
    camera = ViewerCamera(stage.shown[2], 1., 1.)
    assert (moved.render(camera, (16, 16), 2, False) - stage.render(camera, (16, 16), 2, False)).abs().max() < 1e-3


def test_views_are_rendered_as_large_as_there_is_time_for():
    resolution, whole = ResolutionController(patch_size = 8), (128, 200)
    assert resolution.size(whole) == whole
    resolution.took(whole, 100 * SECONDS_A_VIEW)
    smallest = resolution.size(whole)
    assert smallest == (32, 56)
    for _ in range(10):
        resolution.took(smallest, SECONDS_A_VIEW / 8)
    between = resolution.size(whole)
    assert smallest < between < whole
    for _ in range(20):
        resolution.took(whole, SECONDS_A_VIEW / 2)
    assert resolution.size(whole) == whole


def test_the_spacing_of_cameras_is_measured(stage):
    centres = stage.shown[:, :3, 3]
    nearest = [min(float((a - b).norm()) for j, b in enumerate(centres) if j != i) for i, a in enumerate(centres)]
    assert stage.spacing() == pytest.approx(sorted(nearest)[3], rel = 1e-4)
    assert Stage(stage.model, replace(stage.scene, views = stage.scene.views[:1]), stage.size, stage.lock).spacing() == 1.
