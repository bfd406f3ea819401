"""Values that can't be right are noticed where they enter, and digits of worlds far away are kept, in every reader as in `synthesize`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pycolmap
import pytest
import torch
from conftest import known_cameras, tiny_model
from PIL import Image

from lvsm_pytorch import synthesize
from lvsm_pytorch.data import (
    BadView,
    DatasetSource,
    Scene,
    SceneSource,
    View,
    cameras_of,
    read_scene,
    split_dataset,
    synthetic_scene,
    write_chunks,
    write_colmap,
    write_lvsm,
    write_transforms,
)
from lvsm_pytorch.data.images import load_image, save_image
from lvsm_pytorch.data.scene import unit_of_set
from lvsm_pytorch.data.view_sampling import draw_nearest_views
from lvsm_pytorch.evaluation.inspection import angles_across, inspect
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.inference.paths import read_path

WRITERS = dict(transforms = write_transforms, colmap = write_colmap, chunks = lambda scene, folder: write_chunks([scene], folder), lvsm = lambda scene, folder: write_lvsm([scene], folder))


def changed(scene, change):
    return replace(scene, views = tuple(replace(view, intrinsics = change(view.intrinsics)) for view in scene.views))


def fractions(k):
    return torch.tensor([[k[0, 0] / 64, 0., 0.5], [0., k[1, 1] / 64, 0.5], [0., 0., 1.]])


def larger(k):
    return k * torch.tensor([[2.1], [2.1], [1.]])


def smaller(k):
    return k * torch.tensor([[0.25], [0.25], [1.]])


def very_wide(k):
    return k * torch.tensor([[0.01, 0., 1.], [0., 0.01, 1.], [0., 0., 1.]])


MISTAKES = [(fractions, 'fractions of the image'), (larger, 'another size'), (smaller, '4 times smaller'), (very_wide, 'less than 175 degrees')]


@pytest.mark.parametrize('format', ['transforms', 'colmap', 'lvsm'])
@pytest.mark.parametrize('change, message', MISTAKES)
def test_intrinsics_that_cannot_be_of_the_photos_are_named(tmp_path, format, change, message):
    wrong = changed(synthetic_scene(0, num_views = 4, image_size = 64), change)
    WRITERS[format](wrong, tmp_path)
    with pytest.raises(ValueError, match = message):
        read_scene(tmp_path)


@pytest.mark.parametrize('change, message', [(larger, 'another size'), (smaller, '4 times smaller'), (lambda k: k * torch.tensor([[64.], [64.], [1.]]), 'another size')])
def test_intrinsics_of_chunks_that_cannot_be_of_the_photos_are_named(tmp_path, change, message):
    """Of which pixels where there should be fractions are one kind."""
    write_chunks([changed(synthetic_scene(0, num_views = 4, image_size = 64), change)], tmp_path)
    if change is smaller:
        with pytest.raises(BadView, match = message):
            read_scene(tmp_path)
        return
    with pytest.warns(UserWarning, match = message), pytest.raises(BadView, match = 'at least one view that can be used'):
        read_scene(tmp_path)


def test_intrinsics_of_the_whole_photo_beside_half_of_it(tmp_path):
    """DL3DV's `images_2` alone, and a JSON that says no w and h: it can't be known of which size they are, and is not guessed."""
    write_transforms(synthetic_scene(7, num_views = 4, image_size = 64), tmp_path)
    content = json.loads((tmp_path / 'transforms.json').read_text())
    for frame in content['frames']:
        del frame['w'], frame['h']
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    (tmp_path / 'images_2').mkdir()
    for path in (tmp_path / 'images').iterdir():
        with Image.open(path) as file:
            file.resize((32, 32)).save(tmp_path / 'images_2' / path.name)
    shutil.rmtree(tmp_path / 'images')
    with pytest.raises(ValueError, match = r'principal point inside its image, 32 × 32.*that size \(w and h\)'):
        read_scene(tmp_path)


@pytest.mark.parametrize('format', WRITERS)
def test_a_principal_point_off_the_middle_is_no_mistake(tmp_path, format):
    """And widths are the image's."""
    off = changed(synthetic_scene(0, num_views = 4, image_size = 64), lambda k: k + torch.tensor([[0., 0., 21.], [0., 0., -13.], [0., 0., 0.]]))
    WRITERS[format](off, tmp_path)
    for a, b in zip(off.views, read_scene(tmp_path).views, strict = True):
        assert torch.allclose(a.intrinsics, b.intrinsics, atol = 1e-3)
        assert b.size == (64, 64)


def test_inspect_measures_widths_by_the_image(tmp_path, capsys):
    assert angles_across(torch.tensor([[[50., 0., 50.], [0., 50., 50.], [0., 0., 1.]], [[50., 0., 0.], [0., 50., 50.], [0., 0., 1.]]]), torch.tensor([100., 50.])).tolist() == pytest.approx([90., 45.], abs = 1e-3)
    off = changed(synthetic_scene(0, num_views = 4, image_size = 64), lambda k: torch.tensor([[32., 0., 16.], [0., 32., 32.], [0., 0., 1.]]))
    write_transforms(off, tmp_path / 'data')
    inspect(tmp_path / 'data', tmp_path / 'cameras.png', pairs = 2)
    assert f'about {np.rad2deg(np.arctan(0.5) + np.arctan(1.5)):.4g} degrees wide' in capsys.readouterr().out


# lenses

def lens(tmp_path, **content):
    save_image(torch.rand(3, 60, 80), tmp_path / 'a.png')
    frames = [dict(file_path = 'a.png', transform_matrix = torch.eye(4).tolist())]
    (tmp_path / 'transforms.json').write_text(json.dumps(dict(dict(fl_x = 50., cx = 40., cy = 30., w = 80, h = 60), frames = frames, **content)))
    return read_scene(tmp_path).views[0]


@pytest.mark.parametrize('content, message', [
    (dict(k1 = -1.), 'monotonic'),
    (dict(k1 = 0.1, k2 = -0.9), 'monotonic'),
    (dict(camera_model = 'OPENCV_FISHEYE', k1 = -1.5), 'monotonic|180 degrees'),
])
def test_distortion_that_folds_the_image_over_is_named(tmp_path, content, message):
    with pytest.raises(BadView, match = message):
        lens(tmp_path, **content)


def test_fisheyes_of_180_degrees_are_named(tmp_path):
    content = dict(camera_model = 'OPENCV_FISHEYE', k1 = 0.)
    save_image(torch.rand(3, 60, 80), tmp_path / 'a.png')
    frames = [dict(file_path = 'a.png', transform_matrix = torch.eye(4).tolist())]
    for focal, is_wide in ((80 / np.pi, True), (22., True), (30., False)):
        (tmp_path / 'transforms.json').write_text(json.dumps(dict(fl_x = focal, cx = 40., cy = 30., w = 80, h = 60, frames = frames, **content)))
        if is_wide:
            with pytest.raises(BadView, match = 'less than 180 degrees'):
                read_scene(tmp_path)
        else:
            assert read_scene(tmp_path).views[0].load().shape == (3, 60, 80)


@pytest.mark.parametrize('model, parameters, is_good', [
    ('OPENCV', [50., 50., 40., 30., -0.1, 0.01, 0., 0.], True), ('OPENCV', [50., 50., 40., 30., -1., 0., 0., 0.], False),
    ('SIMPLE_RADIAL', [50., 40., 30., 0.1], True), ('SIMPLE_RADIAL', [50., 40., 30., -0.9], False),
    ('OPENCV_FISHEYE', [30., 30., 40., 30., 0., 0., 0., 0.], True), ('OPENCV_FISHEYE', [20., 20., 40., 30., 0., 0., 0., 0.], False),
])
def test_lenses_of_colmap_that_fold_or_are_too_wide_are_named(tmp_path, model, parameters, is_good):
    reconstruction = pycolmap.Reconstruction()
    reconstruction.add_camera_with_trivial_rig(pycolmap.Camera(camera_id = 1, model = model, width = 80, height = 60, params = parameters))
    reconstruction.add_image_with_trivial_frame(pycolmap.Image(image_id = 1, name = 'a.png', camera_id = 1), pycolmap.Rigid3d(np.eye(4)[:3]))
    (tmp_path / 'sparse/0').mkdir(parents = True)
    (tmp_path / 'images').mkdir()
    reconstruction.write(str(tmp_path / 'sparse/0'))
    save_image(torch.rand(3, 60, 80), tmp_path / 'images/a.png')
    if is_good:
        assert len(read_scene(tmp_path).views) == 1
    else:
        with pytest.raises(BadView, match = 'monotonic over its image, and less than 180 degrees'):
            read_scene(tmp_path)


# worlds far away

FAR = torch.tensor([432000., 5411000., 100.], dtype = torch.float64)


def far(scene):
    """In metres of UTM, ten to a unit."""
    def moved(pose):
        pose = pose.double().clone()
        pose[:3, 3] = pose[:3, 3] * 10 + FAR
        return pose

    return replace(scene, views = tuple(replace(view, camera_to_world = moved(view.camera_to_world)) for view in scene.views))


@pytest.mark.parametrize('format', WRITERS)
def test_digits_of_a_world_far_away_are_kept_from_the_file_to_the_normalised_pose(tmp_path, format):
    near = synthetic_scene(7, num_views = 8, image_size = 32)
    WRITERS[format](far(near), tmp_path)
    read = read_scene(tmp_path)
    assert (cameras_of(read.views).camera_to_world[:, :3, 3] - cameras_of(far(near).views).camera_to_world[:, :3, 3]).abs().max() < 1e-5
    expected, found = (normalize_poses(cameras_of(scene.views).camera_to_world).inputs for scene in (near, read))
    assert (expected - found).abs().max() < 1e-5
    assert expected[:, :3, 3].abs().max() == pytest.approx(1 / 1.35, rel = 1e-5)
    if format in ('transforms', 'colmap'):
        assert unit_of_set(read) == pytest.approx(10 * unit_of_set(near), rel = 1e-5)


def test_a_world_far_away_trains_with_the_same_samples(tmp_path):
    near = synthetic_scene(7, num_views = 12, image_size = 16)
    write_transforms(far(near), tmp_path / 'one')
    options = dict(num_inputs = 2, num_targets = 1, image_size = 16)
    for frame in ('scene', 'inputs'):
        a, b = (SceneSource(scene, frame = frame, **options).training_batch(0, 4) for scene in (replace(near, name = 'one', views = tuple(replace(view, name = f'images/{view.name}.png') for view in near.views)), read_scene(tmp_path / 'one')))
        assert (a.input_rays - b.input_rays).abs().max() < 1e-4
        assert (a.target_rays - b.target_rays).abs().max() < 1e-4

    for seed in range(9):
        write_transforms(synthetic_scene(seed, num_views = 6, image_size = 16), tmp_path / f'near/{seed}')
        write_transforms(far(synthetic_scene(seed, num_views = 6, image_size = 16)), tmp_path / f'far/{seed}')
    a, b = (DatasetSource(split_dataset(tmp_path / name), **options) for name in ('near', 'far'))
    assert (a.training_batch(0, 8).input_rays - b.training_batch(0, 8).input_rays).abs().max() < 1e-4
    assert (a.held_out().target_rays - b.held_out().target_rays).abs().max() < 1e-4
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    drawn = [draw_nearest_views(cameras_of(scene.views).camera_to_world, num_inputs = 2, num_targets = 1, generator = generator) for scene, generator in zip((near, far(near)), generators, strict = True)]
    assert drawn[0] == drawn[1]


def test_cameras_of_float64_that_differ_by_rounding_alone_are_in_one_place():
    poses = torch.eye(4, dtype = torch.float64).repeat(3, 1, 1)
    poses[:, :3, 3] = FAR + 1e-10 * torch.randn(3, 3, dtype = torch.float64)
    assert normalize_poses(poses).inputs[:, :3, 3].abs().max() < 1e-6


def test_a_path_in_a_world_far_away_keeps_its_digits(tmp_path):
    poses = cameras_of(far(synthetic_scene(7, num_views = 3, image_size = 8)).views).camera_to_world
    (tmp_path / 'path.json').write_text(json.dumps(dict(camera_to_world = poses.tolist())))
    assert torch.equal(read_path(tmp_path / 'path.json', (8, 8), torch.eye(3)).cameras.camera_to_world, poses)


def test_inspect_judges_and_draws_a_world_far_away(tmp_path, capsys):
    write_transforms(far(synthetic_scene(3, num_views = 16, image_size = 192)), tmp_path / 'data')
    found, = inspect(tmp_path / 'data', tmp_path / 'cameras.png', pairs = 8)
    assert found.compared.agreement.verdict == 'cameras agree with the images'
    assert found.compared.agreement.given < 1


# synthesize

SIZE = (16, 24)


def asked(**changes):
    cameras = known_cameras(3, size = SIZE)
    return dict(images = [torch.rand(3, *SIZE) for _ in range(3)], cameras = cameras, target_cameras = known_cameras(2, size = SIZE), size = SIZE, **changes)


@pytest.mark.parametrize('change, message', [
    (lambda a: a.update(images = [255 * a['images'][0], *a['images'][1:]]), r'images\[0\] has values from .* where images are in \[0, 1\]'),
    (lambda a: a.update(cameras = Cameras(a['cameras'].camera_to_world, a['cameras'].intrinsics * torch.tensor([[4.], [4.], [1.]]))), 'another size of the photos'),
    (lambda a: a.update(cameras = Cameras(a['cameras'].camera_to_world + torch.nn.functional.pad(FAR.float(), (0, 1))[:, None] * torch.tensor([0., 0., 0., 1.]), a['cameras'].intrinsics)), 'torch.float32, which rounds cameras'),
])
def test_what_is_hardly_meant_is_said_and_computed(change, message):
    arguments = asked()
    change(arguments)
    with pytest.warns(UserWarning, match = message):
        assert synthesize(tiny_model(), **arguments).shape == (2, 3, *SIZE)


def test_photos_are_synthesized_from_files(tmp_path):
    arguments = asked()
    paths = [tmp_path / f'{index}.png' for index in range(3)]
    for image, path in zip(arguments['images'], paths, strict = True):
        save_image(image, path)
    model = tiny_model().eval()
    expected = synthesize(model, **{**arguments, 'images': [load_image(path) for path in paths]})
    for images in (paths, [str(path) for path in paths], [paths[0], load_image(paths[1]), paths[2]]):
        torch.testing.assert_close(synthesize(model, **{**arguments, 'images': images}), expected)
    with pytest.raises(ValueError, match = 'image: must be a readable image file'):
        synthesize(model, **{**arguments, 'images': [*paths[:2], tmp_path / 'none.png']})


def test_no_views_are_asked_for_and_none_come():
    arguments = asked()
    none = Cameras(*(t[:0] for t in arguments['target_cameras']))
    assert synthesize(tiny_model(), **{**arguments, 'target_cameras': none}).shape == (0, 3, *SIZE)
    cameras = cameras_of([])
    assert cameras.camera_to_world.shape == (0, 4, 4)
    assert cameras.intrinsics.shape == (0, 3, 3)


def test_a_view_of_a_programs_own_is_fitted_too():
    view = View('a', torch.eye(4), torch.eye(3), lambda: torch.rand(3, 30, 50))
    assert view.size == (30, 50)
    image, _ = view.fitted((10, 10))
    assert image.shape == (3, 10, 10)
    assert view.thumbnail(25)[0].shape == (3, 15, 25)
    assert len(Scene('s', (view,)).views) == 1
