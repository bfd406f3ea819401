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
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.geometry.cameras import Cameras, move_poses
from lvsm_pytorch.geometry.scene_scale import DepthRange
from lvsm_pytorch.inference.nearest import NearestPhotos
from lvsm_pytorch.inference.scenes import unit_for
from lvsm_pytorch.lvsm.pretrained import TrainedFor
from lvsm_pytorch.viewer.fade import WeightedSets
from lvsm_pytorch.viewer.session import SECONDS_PER_VIEW, ResolutionController, Stage, ViewerCamera

SIZE = 16, 24


def model_for(attends):
    torch.manual_seed(1)
    model = tiny_model(num_depth_planes = 2, input_attends_target = attends, max_image_size = 64)
    model.trained_for = TrainedFor('inputs', SIZE, 2)
    return model.eval()


@pytest.fixture
def stage():
    return Stage(model_for(False), synthetic_scene(3, num_views = 7, image_size = 24), SIZE, Lock())


def sets_for(stage, camera, count, attends = False):
    """The nearest photos, encoded."""
    key = stage.inputs_for(camera, count, attends)
    return [WeightedSets(key, stage.encode(key), 1.)]


@pytest.mark.parametrize('attends', [True, False])
def test_a_view_is_that_of_synthesize(stage, attends):
    camera = ViewerCamera(stage.shown[4], stage.fov, 24 / 16)
    seen = [stage.scene.views[number] for number in stage.inputs_for(camera, 2, attends).inputs]
    intrinsics = seen[0].intrinsics - torch.tensor([[0., 0., 0.], [0., 0., 4.], [0., 0., 0.]])    # cut from 24 × 24
    unit = 1 / float(stage.viewer_from_world[:3, :3].norm(dim = 0).mean())
    expected = synthesize(model_for(attends), [view.load() for view in seen], cameras_of(seen), Cameras(stage.scene.views[4].camera_to_world, intrinsics), (16, 24), unit = unit)
    assert (stage.render(camera, (16, 24), sets_for(stage, camera, 2, attends)) - expected).abs().max() < 1e-4


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
        camera = ViewerCamera(pose, 1., 1.)
        view = stage.render(camera, (16, 16), sets_for(stage, camera, 3))
        assert view.isfinite().all()
        assert view.min() >= 0
        assert view.max() <= 1


def test_inputs_are_the_nearest_photos_that_can_be_read(stage):
    for number in range(7):
        camera = ViewerCamera(stage.shown[number], 1., 1.)
        assert stage.nearest(camera) == number
        assert number in stage.inputs_for(camera, 3, False).inputs
        assert len(stage.inputs_for(camera, 3, False).inputs) == 3
    stage.photos.bad.add(4)
    assert 4 not in stage.inputs_for(ViewerCamera(stage.shown[4], 1., 1.), 6, False).inputs
    stage.photos.bad.update(range(7))
    with pytest.raises(BadView, match = 'must have a photo that can be read'):
        stage.inputs_for(ViewerCamera(stage.shown[4], 1., 1.), 3, False)


def test_choosing_photos_reads_none(stage):
    loads = []
    views = tuple(replace(view, load = lambda view = view: loads.append(view.name) or view.load()) for view in stage.scene.views)
    counted = Stage(stage.model, replace(stage.scene, views = views), stage.size, stage.lock)
    camera = ViewerCamera(counted.shown[0], 1., 1.)
    key = counted.inputs_for(camera, 3, False)
    assert not loads
    for _ in range(3):
        counted.encode(key)
    assert len(loads) == 3


def test_what_cameras_turn_around(stage):
    """The built-in scenes lie around the origin, and cameras look there."""
    subject = move_poses(stage.viewer_from_world, torch.eye(4, dtype = torch.float64))[:3, 3].float()
    for pose in stage.shown:
        pivot = pose[:3, 3] + stage.subject_distance(pose) * pose[:3, 2]
        assert (pivot - subject).norm() < 0.4 * (pose[:3, 3] - subject).norm()
    beside = stage.shown[0].clone()
    beside[:3, 3] += 0.5 * beside[:3, 0]    # moved aside, it turns around a point as far ahead as the subject is
    assert stage.subject_distance(beside) == pytest.approx(stage.subject_distance(stage.shown[0]), rel = 1e-4)
    behind = stage.shown[0] @ torch.diag(torch.tensor([-1., 1., -1., 1.]))
    assert stage.subject_distance(behind) > 0


def test_where_photos_look_in_parallel_cameras_turn_around_what_the_scene_has(stage, monkeypatch):
    monkeypatch.setattr(Stage, 'depth_range', DepthRange(20., 45.))
    assert stage.subject_distance(stage.shown[0]) == pytest.approx(30.)


@pytest.mark.parametrize('count', [1, 2, 3])
def test_a_film_is_that_of_the_nearest_photos(stage, count):
    cameras = stage.path([ViewerCamera(pose, 1., 1.) for pose in stage.shown[:3]], 4, (16, 16))
    expected = NearestPhotos(model_for(False), stage.photos, count, unit = unit_for(stage.model, stage.scene)).render(cameras, (16, 16))
    for view, other in zip(stage.film(cameras, (16, 16), count, False), expected, strict = True):
        assert (view - other).abs().max() < 1e-4


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
    assert (moved.render(camera, (16, 16), sets_for(moved, camera, 2)) - stage.render(camera, (16, 16), sets_for(stage, camera, 2))).abs().max() < 1e-3
    assert moved.subject_distance(moved.shown[2]) == pytest.approx(stage.subject_distance(stage.shown[2]), rel = 1e-3)


def test_views_are_rendered_as_large_as_there_is_time_for():
    resolution, whole = ResolutionController(patch_size = 8), (128, 200)
    assert resolution.size(whole) == whole
    resolution.took(whole, SECONDS_PER_VIEW / 2)
    assert resolution.size(whole) == whole
    assert resolution.size(whole, sets = 3) < whole    # while photos fade, a view is rendered from each set
    resolution.took(whole, 1000 * SECONDS_PER_VIEW)
    smallest = resolution.size(whole)
    assert smallest == (32, 56)
    for _ in range(10):
        resolution.took(smallest, SECONDS_PER_VIEW / 8)
    between = resolution.size(whole)
    assert smallest < between < whole
    for _ in range(20):
        resolution.took(whole, SECONDS_PER_VIEW / 2)
    assert resolution.size(whole) == whole


def test_the_spacing_of_cameras_is_measured(stage):
    centres = stage.shown[:, :3, 3]
    nearest = [min(float((a - b).norm()) for j, b in enumerate(centres) if j != i) for i, a in enumerate(centres)]
    assert stage.spacing() == pytest.approx(sorted(nearest)[3], rel = 1e-4)
    assert Stage(stage.model, replace(stage.scene, views = stage.scene.views[:1]), stage.size, stage.lock).spacing() == 1.
