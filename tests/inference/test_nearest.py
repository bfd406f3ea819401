"""Views of many photos, each rendered from those nearest to its camera."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from lvsm_pytorch.data.synthetic import synthetic_scene
from lvsm_pytorch.geometry import Cameras
from lvsm_pytorch.geometry.scene_scale import UNIT_OF_NEAR, estimate_depth_range
from lvsm_pytorch.geometry.trajectories import interpolate_poses
from lvsm_pytorch.inference.jumps import find_jumps
from lvsm_pytorch.inference.nearest import NearestPhotos
from lvsm_pytorch.inference.pipeline import encode_photos, synthesize
from lvsm_pytorch.inference.scenes import FittedViews
from lvsm_pytorch.lvsm import LVSM
from lvsm_pytorch.lvsm.pretrained import TrainedFor

SIZE = (16, 16)


@pytest.fixture(scope = 'module')
def model():
    torch.manual_seed(0)
    return LVSM(32, max_image_size = 16, patch_size = 8, depth = 1, dim_head = 16, camera_encoding = 'prope', input_attends_target = False, num_depth_planes = 6, plane_sweep = 'features').eval()


@pytest.fixture(scope = 'module')
def photos():
    return FittedViews(synthetic_scene(5, num_views = 10, image_size = 16), SIZE)


def path(photos, frames: int) -> Cameras:
    poses = torch.stack([view.camera_to_world for view in photos.scene.views])
    order = poses[:, 0, 3].argsort()
    poses = interpolate_poses(poses[order], frames)
    return Cameras(poses, photos.scene.views[0].intrinsics.expand(frames, 3, 3))


def test_photos_are_the_nearest_ones(model, photos):
    nearest = NearestPhotos(model, photos, 3)
    for number, view in enumerate(photos.scene.views):
        assert number in nearest.inputs_for(view.camera_to_world)


def test_a_view_is_that_of_its_photos(model, photos):
    cameras = path(photos, 1)
    nearest = NearestPhotos(model, photos, 3)
    view, = nearest.render(cameras, SIZE)
    inputs = nearest.inputs_for(cameras.camera_to_world[0])
    expected = synthesize(model, *photos.of(inputs), cameras, SIZE)
    torch.testing.assert_close(view, expected[0], rtol = 0, atol = 1e-5)


def test_sets_fade_into_each_other(model, photos):
    """Weights add up to 1, change by at most one share a frame, and away from changes one set has all of it."""
    cameras = path(photos, 60)
    fade = 3
    of_path = NearestPhotos(model, photos, 3, fade = fade).weighted_inputs(cameras.camera_to_world)
    sets = {inputs for each in of_path for inputs in each.inputs}
    assert len(sets) > 2
    weights = [dict(zip(*each, strict = True)) for each in of_path]
    for each in weights:
        assert sum(each.values()) == pytest.approx(1)
    for one, other in pairwise(weights):
        assert all(abs(one.get(inputs, 0) - other.get(inputs, 0)) < 1 / (2 * fade + 1) + 1e-9 for inputs in sets)
    assert any(len(each) == 1 for each in weights)


def test_films_do_not_jump(model, photos):
    cameras = path(photos, 40)
    inputs = [NearestPhotos(model, photos, 2).inputs_for(pose) for pose in cameras.camera_to_world]
    hard, soft = (torch.stack(list(NearestPhotos(model, photos, 2, fade = fade).render(cameras, SIZE))) for fade in (0, 4))
    without, faded = ([jump.ratio for jump in find_jumps(film, inputs)] for film in (hard, soft))
    assert max(without) > 2 * max(faded)
    assert max(faded) < 2


def test_some_frames_of_a_path_are_those_of_the_whole(model, photos):
    cameras = path(photos, 12)
    nearest = NearestPhotos(model, photos, 2)
    whole = list(nearest.render(cameras, SIZE))
    for number, view in zip([7, 3], nearest.render(cameras, SIZE, [7, 3]), strict = True):
        torch.testing.assert_close(view, whole[number])


def test_encoded_sets_are_kept_within_a_bound(model, photos):
    nearest = NearestPhotos(model, photos, 2)
    list(nearest.render(path(photos, 60), SIZE))
    info = nearest.encoded.cache_info()
    assert info.currsize <= NearestPhotos.KEPT
    assert info.hits > 30


def test_fewer_photos_than_inputs(model):
    few = FittedViews(synthetic_scene(5, num_views = 2, image_size = 16), SIZE)
    assert NearestPhotos(model, few, 3).inputs_for(few.scene.views[0].camera_to_world) == (0, 1)


def test_the_unit_of_the_world_does_not_matter(photos):
    """A model that goes by how far the scene is renders the same views whatever unit the cameras are in."""
    torch.manual_seed(0)
    model = LVSM(32, max_image_size = 64, patch_size = 8, depth = 1, dim_head = 16, camera_encoding = 'prope', input_attends_target = False, num_depth_planes = 6, plane_sweep = 'features').eval()
    model.trained_for = TrainedFor('inputs', (64, 64), 3, scale = 'depth')
    scene = synthetic_scene(5, num_views = 4, image_size = 64)
    cameras = Cameras(torch.stack([view.camera_to_world for view in scene.views]), torch.stack([view.intrinsics for view in scene.views]))
    images = [view.load() for view in scene.views[:3]]
    views = []

    for unit in (1., 250.):
        scaled = cameras.transform(torch.diag(torch.tensor([unit, unit, unit, 1.])))
        views.append(synthesize(model, images, scaled[:3], scaled[3], (64, 64)))

    torch.testing.assert_close(views[0], views[1], rtol = 0, atol = 1e-3)
    near = estimate_depth_range(torch.stack(images), cameras[:3]).near
    scale = encode_photos(model, images, cameras[:3]).world[:3, 0].norm().item()
    assert scale == pytest.approx(UNIT_OF_NEAR / near, rel = 1e-4)
