"""Datasets of every format: what is written is read again, what is there is recognised, and what is bad is skipped."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pycolmap
import pytest
import torch
from conftest import Malicious, known_cameras
from PIL import Image

from lvsm_pytorch import plucker_rays
from lvsm_pytorch.data import (
    BadView,
    Chunks,
    DatasetSource,
    Problems,
    SceneSource,
    hold_out,
    open_dataset,
    read_colmap,
    read_lvsm,
    read_scene,
    shuffled_order,
    split_dataset,
    split_scenes,
    synthetic_scene,
    write_chunks,
    write_colmap,
    write_lvsm,
    write_transforms,
)
from lvsm_pytorch.data.formats.chunks import jpeg_of
from lvsm_pytorch.data.formats.colmap import load_undistorted, undistorted
from lvsm_pytorch.data.formats.undistort import Distortion, undistort, undistorted_intrinsics
from lvsm_pytorch.data.images import load_image, save_image
from lvsm_pytorch.data.view_sampling import draw_nearest_views, draw_video_views
from lvsm_pytorch.geometry.conventions import opencv_to_opengl
from lvsm_pytorch.geometry.normalization import normalize_poses


def scenes(count, num_views = 4, image_size = 16):
    return [synthetic_scene(seed, num_views = num_views, image_size = image_size) for seed in range(count)]


def wide(scene):
    """Without the lower part of its photos: width and height differ."""
    return replace(scene, views = tuple(replace(view, load = lambda load = view.load: load()[:, :12]) for view in scene.views))


WRITERS = {
    'transforms.json': lambda scenes, folder: [write_transforms(scene, folder / scene.name if len(scenes) > 1 else folder) for scene in scenes],
    'COLMAP model': lambda scenes, folder: [write_colmap(scene, folder / scene.name if len(scenes) > 1 else folder) for scene in scenes],
    'RealEstate10K chunks': write_chunks,
    "LVSM authors' JSON": write_lvsm,
}


@pytest.mark.parametrize('format', WRITERS)
@pytest.mark.parametrize('count', [1, 3])
def test_every_format_comes_back_with_the_same_rays(tmp_path, format, count):
    written = [wide(scene) for scene in scenes(count)]
    WRITERS[format](written, tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.format == format
    assert len(dataset) == count
    for index, scene in enumerate(written):
        assert dataset[index].name == (scene.name if count > 1 or format in ('RealEstate10K chunks', "LVSM authors' JSON") else tmp_path.name)
        for a, b in zip(scene.views, dataset[index].views, strict = True):
            assert (plucker_rays(a.camera_to_world, a.intrinsics, (12, 16)) - plucker_rays(b.camera_to_world, b.intrinsics, (12, 16))).abs().max() < 1e-5
            assert (a.load() - b.load()).abs().mean() < 0.02  # a JPEG's
        assert dataset[index].is_video == (format in ('RealEstate10K chunks', "LVSM authors' JSON"))
    assert not dataset.problems.found

    if format != 'transforms.json' or count == 1:
        with pytest.raises(ValueError, match = 'folder: must have no'):
            WRITERS[format](written, tmp_path)


def test_what_is_no_dataset_is_named(tmp_path):
    (tmp_path / 'notes.txt').write_text('nothing')
    for path in (tmp_path, tmp_path / 'notes.md', tmp_path / 'missing'):
        with pytest.raises(ValueError, match = 'data: must be a transforms.json'):
            open_dataset(path)
    write_lvsm(scenes(2), tmp_path / 'two')
    with pytest.raises(ValueError, match = 'data: must have one scene, but got 2'):
        read_scene(tmp_path / 'two')


# transforms.json as others write it

def test_blenders_files_are_one_scene_whose_val_and_test_views_are_held_out(tmp_path):
    poses = known_cameras(6).camera_to_world
    for split, indices in dict(train = range(3), val = range(3, 4), test = range(4, 6)).items():
        frames = []
        for index in indices:
            save_image(torch.rand(3, 8, 8), tmp_path / split / f'r_{index}.png') if (tmp_path / split).is_dir() else (tmp_path / split).mkdir()
            save_image(torch.rand(3, 8, 8), tmp_path / split / f'r_{index}.png')
            frames.append(dict(file_path = f'./{split}/r_{index}', transform_matrix = opencv_to_opengl(poses[index]).tolist()))
        (tmp_path / f'transforms_{split}.json').write_text(json.dumps(dict(camera_angle_x = 0.7, frames = frames)))

    scene = read_scene(tmp_path)
    training, held_out = hold_out(scene)
    assert [view.name for view in held_out.views] == ['test/r_4.png', 'test/r_5.png', 'val/r_3.png']
    assert len(training.views) == 3
    assert scene.views[0].intrinsics[0, 0] == pytest.approx(4 / np.tan(0.35), rel = 1e-5)


def test_nerfstudios_test_views_are_held_out(tmp_path):
    write_transforms(synthetic_scene(0, num_views = 5, image_size = 8), tmp_path)
    content = json.loads((tmp_path / 'transforms.json').read_text())
    (tmp_path / 'transforms.json').write_text(json.dumps(dict(content, test_filenames = ['images/0003.png'])))
    assert [view.name for view in hold_out(read_scene(tmp_path))[1].views] == ['images/0003.png']


def test_images_that_are_there_in_a_smaller_size_are_taken(tmp_path):
    write_transforms(synthetic_scene(0, num_views = 3, image_size = 32), tmp_path)
    whole = read_scene(tmp_path).views[1]
    (tmp_path / 'images_4').mkdir()
    for path in (tmp_path / 'images').iterdir():
        with Image.open(path) as file:
            file.resize((8, 8)).save(tmp_path / 'images_4' / path.name)
    shutil.rmtree(tmp_path / 'images')
    small = read_scene(tmp_path).views[1]
    assert small.load().shape == (3, 8, 8)
    assert torch.allclose(small.intrinsics[:2], whole.intrinsics[:2] / 4)


# distortion

def coordinates(size):
    """A photo (3 h w) that holds the pixel coordinates of its own pixels, as fractions of its size."""
    y, x = torch.meshgrid((torch.arange(size[0]) + 0.5) / size[0], (torch.arange(size[1]) + 0.5) / size[1], indexing = 'ij')
    return torch.stack((x, y, x))


def brown_conrady(ray, k1, k2, p1, p2, k3 = 0.):
    """Brown 1971: where the ray (x, y, 1) falls on a distorting lens's plane."""
    x, y = ray
    r2 = x ** 2 + y ** 2
    radial = 1 + k1 * r2 + k2 * r2 ** 2 + k3 * r2 ** 3
    return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x ** 2), y * radial + p1 * (r2 + 2 * y ** 2) + 2 * p2 * x * y


def kannala_brandt(ray, k1, k2, k3, k4):
    """Kannala & Brandt 2006."""
    x, y = ray
    r = (x ** 2 + y ** 2).sqrt()
    t = torch.atan(r)
    scale = t * (1 + k1 * t ** 2 + k2 * t ** 4 + k3 * t ** 6 + k4 * t ** 8) / r
    return x * scale, y * scale


@pytest.mark.parametrize('model, coefficients, formula', [
    ('opencv', (-0.2, 0.05, 0.01, -0.005), brown_conrady),
    ('opencv', (0.1, 0.02, 0., 0., -0.03), brown_conrady),
    ('fisheye', (-0.02, 0.01, 0., 0.), kannala_brandt),
])
def test_an_undistorted_photo_is_that_of_its_pinhole(model, coefficients, formula):
    size = (60, 80)
    intrinsics = torch.tensor([[50., 0., 41.], [0., 52., 29.], [0., 0., 1.]])
    distortion = Distortion(model, coefficients)
    pinhole = undistorted_intrinsics(intrinsics, distortion, size)
    shown = undistort(coordinates(size), intrinsics, distortion, pinhole)

    pixels = torch.cat((coordinates(size)[:2] * torch.tensor([80., 60.]).view(2, 1, 1), torch.ones(1, *size)))
    ray = torch.einsum('ij,jhw->ihw', torch.linalg.inv(pinhole), pixels)[:2]
    x, y = formula(ray, *coefficients)
    expected = torch.stack((intrinsics[0, 0] * x + intrinsics[0, 2], intrinsics[1, 1] * y + intrinsics[1, 2]))
    inside = (..., slice(2, -2), slice(2, -2))
    assert (shown[:2] * torch.tensor([80., 60.]).view(2, 1, 1) - expected)[inside].abs().max() < 0.1
    assert (expected[inside] - pixels[:2][inside]).abs().max() > 1  # it does distort


def test_distorted_photos_of_a_transforms_json_are_undistorted(tmp_path):
    content = dict(fl_x = 50., cx = 40., cy = 30., w = 80, h = 60, k1 = -0.2, camera_model = 'OPENCV', frames = [dict(file_path = 'a.png', transform_matrix = torch.eye(4).tolist())])
    save_image(coordinates((60, 80)), tmp_path / 'a.png')
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    view = read_scene(tmp_path).views[0]
    intrinsics = torch.tensor([[50., 0., 40.], [0., 50., 30.], [0., 0., 1.]])
    distortion = Distortion('opencv', (-0.2, 0., 0., 0.))
    assert torch.equal(view.intrinsics, undistorted_intrinsics(intrinsics, distortion, (60, 80)))
    assert torch.equal(view.load(), undistort(load_image(tmp_path / 'a.png'), intrinsics, distortion, view.intrinsics))
    assert not torch.allclose(view.load(), load_image(tmp_path / 'a.png'), atol = 0.01)


@pytest.mark.parametrize('missing, extra', [('cv2', 'opencv'), ('pycolmap', 'colmap')])
def test_a_missing_package_names_its_extra(tmp_path, monkeypatch, missing, extra):
    write_colmap(synthetic_scene(0, num_views = 2, image_size = 8), tmp_path / 'colmap')
    save_image(torch.rand(3, 8, 8), tmp_path / 'a.png')
    (tmp_path / 'transforms.json').write_text(json.dumps(dict(fl_x = 5., k1 = 0.1, frames = [dict(file_path = 'a.png', transform_matrix = torch.eye(4).tolist())])))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match = rf'pip install "lvsm-pytorch\[{extra}\]"'):
        read_scene(tmp_path if missing == 'cv2' else tmp_path / 'colmap')


def test_decompression_bombs_are_refused(tmp_path):
    Image.new('1', (20_000, 10_000)).save(tmp_path / 'a.png')
    with pytest.raises(BadView, match = 'a.png: .*decompression bomb'):
        load_image(tmp_path / 'a.png')


# COLMAP

def test_rays_of_a_colmap_model_hit_its_points(shared):
    """At the model's own mean reprojection error, 0.134 pixels."""
    folder = shared / 'colmap_brighton'
    views = {view.name: view for view in read_scene(folder).views}
    assert len(views) == 18
    model = pycolmap.Reconstruction(str(folder / 'sparse' / '0'))
    errors = []
    for image in model.images.values():
        view = views[image.name]
        seen = [point for point in image.points2D if point.has_point3D()]
        points = torch.tensor(np.stack([model.points3D[point.point3D_id].xyz for point in seen]))
        in_camera = (torch.linalg.inv(view.camera_to_world.double()) @ torch.cat((points, torch.ones(len(points), 1, dtype = torch.float64)), dim = 1).mT)[:3]
        projected = view.intrinsics.double() @ in_camera
        pixels = (projected[:2] / projected[2]).mT
        errors.append((pixels - torch.tensor(np.stack([point.xy for point in seen]))).norm(dim = -1))
        assert view.load().shape == (3, 256, 455)
    assert torch.cat(errors).mean() == pytest.approx(0.1365, abs = 0.002)


@pytest.mark.parametrize('ending', ['bin', 'txt'])
@pytest.mark.parametrize('layout', ['with rigs', 'before rigs'])
def test_both_layouts_of_both_kinds_are_read(tmp_path, ending, layout):
    scene = synthetic_scene(2, num_views = 3, image_size = 16)
    write_colmap(scene, tmp_path)
    folder = tmp_path / 'sparse' / '0'
    if ending == 'txt':
        model = pycolmap.Reconstruction(str(folder))
        model.write_text(str(folder))
        for path in folder.glob('*.bin'):
            path.unlink()
    if layout == 'before rigs':
        for name in ('rigs', 'frames'):
            (folder / f'{name}.{ending}').unlink()
    views = read_scene(tmp_path).views
    for a, b in zip(scene.views, views, strict = True):
        assert torch.allclose(a.camera_to_world, b.camera_to_world.float(), atol = 1e-5)
        assert torch.allclose(a.intrinsics, b.intrinsics, atol = 1e-4)


@pytest.mark.parametrize('model, parameters', [('SIMPLE_RADIAL', [50., 40., 30., 0.1]), ('OPENCV', [50., 52., 41., 29., -0.1, 0.01, 0.005, 0.]), ('OPENCV_FISHEYE', [50., 50., 40., 30., 0.01, 0., 0., 0.])])
def test_distorting_colmap_cameras_are_made_pinholes(tmp_path, model, parameters):
    """What a pixel of the pinhole shows is where COLMAP's own camera sees that ray."""
    save_image(coordinates((60, 80)), tmp_path / 'a.png')
    camera = pycolmap.Camera(camera_id = 1, model = model, width = 80, height = 60, params = parameters)
    pinhole = undistorted('here', camera)
    shown = load_undistorted(tmp_path / 'a.png', camera)
    assert shown.shape == (3, pinhole.height, pinhole.width)
    pixels = coordinates((pinhole.height, pinhole.width))[:2] * torch.tensor([pinhole.width, pinhole.height]).view(2, 1, 1)
    rays = torch.einsum('ij,jhw->ihw', torch.linalg.inv(torch.from_numpy(pinhole.calibration_matrix()).float()), torch.cat((pixels, torch.ones_like(pixels[:1]))))
    expected = torch.from_numpy(np.stack([camera.img_from_cam(ray) for ray in rays.flatten(1).T.double().numpy()])).T.reshape(2, *shown.shape[1:])
    off = (shown[:2].double() * torch.tensor([80., 60.]).view(2, 1, 1) - expected)[:, 3:-3, 3:-3]
    assert off.abs().max() < 0.5  # a grey level of 255 is 0.3 pixels
    assert off.mean().abs() < 0.2


def test_a_colmap_camera_is_made_that_of_a_smaller_photo(tmp_path):
    write_colmap(synthetic_scene(2, num_views = 2, image_size = 32), tmp_path)
    whole = read_scene(tmp_path).views[0]
    (tmp_path / 'images').rename(tmp_path / 'whole')
    (tmp_path / 'images_4').mkdir()
    for path in (tmp_path / 'whole').iterdir():
        with Image.open(path) as file:
            file.resize((8, 8)).save(tmp_path / 'images_4' / path.name)
    small = read_scene(tmp_path).views[0]
    assert small.load().shape == (3, 8, 8)
    assert torch.allclose(small.intrinsics[:2], whole.intrinsics[:2] / 4)


def test_images_that_were_not_registered_are_left_out(tmp_path):
    write_colmap(synthetic_scene(2, num_views = 3, image_size = 16), tmp_path)
    model = pycolmap.Reconstruction(str(tmp_path / 'sparse' / '0'))
    model.deregister_frame(model.images[2].frame_id)
    model.write(str(tmp_path / 'sparse' / '0'))
    assert [view.name for view in read_scene(tmp_path).views] == ['0000.png', '0002.png']


def test_a_colmap_image_out_of_its_folder_costs_that_image(tmp_path):
    write_colmap(synthetic_scene(2, num_views = 2, image_size = 16), tmp_path)
    model = pycolmap.Reconstruction(str(tmp_path / 'sparse' / '0'))
    model.images[1].name = '../sparse/secret.png'
    model.write(str(tmp_path / 'sparse' / '0'))
    with pytest.warns(UserWarning, match = 'must have its image inside the folder of images, but got ../sparse/secret.png'):
        assert len(read_scene(tmp_path).views) == 1


@pytest.mark.skipif('EQUIRECTANGULAR' not in pycolmap.CameraModelId.__members__, reason = 'this COLMAP undistorts all cameras that it knows')
def test_what_colmap_cannot_undistort_is_named():
    camera = pycolmap.Camera.create_from_model_name(1, 'EQUIRECTANGULAR', 1., 80, 40)
    with pytest.raises(ValueError, match = 'here: must have a camera that COLMAP can undistort, but got EQUIRECTANGULAR'):
        undistorted('here', camera)


def test_colmap_models_that_cannot_be_used(tmp_path):
    write_colmap(synthetic_scene(2, num_views = 3, image_size = 16), tmp_path)
    (tmp_path / 'images' / '0001.png').unlink()
    Image.new('RGB', (32, 16)).save(tmp_path / 'images' / '0002.png')
    problems = Problems()
    with pytest.warns(UserWarning, match = 'skipped') as warned:
        assert [view.name for view in read_colmap(tmp_path, problems).views] == ['0000.png']
    text = ' '.join(str(warning.message) for warning in warned)
    assert '0001.png: must name an image that exists' in text
    assert '0002.png: must have the proportions of its camera, 16 × 16, but got 32 × 16' in text

    (tmp_path / 'images' / '0000.png').unlink()
    with pytest.raises(BadView, match = 'at least one frame that can be used, but got none of 3'):
        read_colmap(tmp_path)

    (tmp_path / 'sparse' / '0' / 'cameras.bin').write_bytes(b'broken')
    with pytest.raises(ValueError, match = 'must be a COLMAP model'):
        read_colmap(tmp_path)
    with pytest.raises(ValueError, match = 'data: must be a folder with a COLMAP model'):
        read_colmap(tmp_path / 'images')


# the LVSM authors' files

def test_paths_of_another_machine_are_found_by_their_ends(tmp_path):
    write_lvsm(scenes(2), tmp_path)
    for path in (tmp_path / 'metadata').iterdir():
        content = json.loads(path.read_text())
        for frame in content['frames']:
            frame['image_path'] = f'/home/somebody/re10k/test/{frame["image_path"]}'
        path.write_text(json.dumps(content))
    (tmp_path / 'full_list.txt').write_text('/home/somebody/re10k/test/metadata/synthetic-1.json\n')
    dataset = open_dataset(tmp_path)
    assert [scene.name for scene in dataset] == ['synthetic-1']
    assert dataset[0].views[2].load().shape == (3, 16, 16)
    assert len(open_dataset(tmp_path / 'full_list.txt')) == 1
    assert len(open_dataset(tmp_path / 'metadata')) == 2

    (tmp_path / 'full_list.txt').write_text('elsewhere.json\n')
    with pytest.raises(ValueError, match = 'must list existing files'):
        open_dataset(tmp_path)


@pytest.mark.parametrize('change, message', [
    (dict(image_path = '/etc/passwd'), 'lead out of the dataset are not followed'),
    (dict(image_path = '../../outside.png'), 'lead out of the dataset are not followed'),
    (dict(image_path = 'images/missing.png'), 'It is not there'),
    (dict(image_path = None), 'image_path'),
    (dict(fxfycxcy = [1., 2.]), 'finite numbers 4 as fxfycxcy'),
    (dict(fxfycxcy = [-1., 2., 3., 4.]), 'focal lengths above 0'),
    (dict(w2c = [[float('nan')] * 4] * 4), 'finite numbers 4 × 4 as w2c'),
    (dict(w2c = (3 * np.eye(4)).tolist()), 'rotation and a translation'),
])
def test_bad_frames_of_an_lvsm_file_are_skipped(tmp_path, change, message):
    (tmp_path.parent / 'outside.png').write_bytes(b'')
    write_lvsm(scenes(1), tmp_path / 'data')
    path = tmp_path / 'data' / 'metadata' / 'synthetic-0.json'
    content = json.loads(path.read_text())
    content['frames'][1].update(change)
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match = f'frame 1: .*{message}'):
        scene = read_lvsm(path, tmp_path / 'data')
    assert [view.name for view in scene.views] == ['000000 00000.png', '000002 00002.png', '000003 00003.png']


# chunks

def test_chunks_without_an_index_are_counted(tmp_path):
    write_chunks(scenes(5), tmp_path, scenes_per_file = 2, with_index = False)
    assert [scene.name for scene in open_dataset(tmp_path)] == [f'synthetic-{seed}' for seed in range(5)]
    assert not (tmp_path / 'index.json').exists()


def test_every_scene_comes_once_an_epoch_over_any_number_of_processes(tmp_path):
    write_chunks(scenes(24, num_views = 2, image_size = 8), tmp_path, scenes_per_file = 4)
    dataset = Chunks(tmp_path, Problems())
    first, second = list(shuffled_order(dataset, 0, seed = 3)), list(shuffled_order(dataset, 1, seed = 3))
    assert sorted(first) == sorted(second) == list(range(24))
    assert first == list(shuffled_order(dataset, 0, seed = 3))
    assert len({tuple(order) for order in (first, second, shuffled_order(dataset, 0, seed = 4), list(range(24)))}) == 4
    for processes in (2, 3, 5):
        assert sorted(index for rank in range(processes) for index in first[rank::processes]) == list(range(24))

    # files are shuffled, and scenes in them; files are read in turns, each to its end

    def files(order):
        return [dataset.place(index)[0] for index in order]

    one_by_one = list(shuffled_order(dataset, 0, seed = 3, lanes = 1))
    assert [len(set(files(one_by_one[start:start + 4]))) for start in range(0, 24, 4)] == [1] * 6
    assert files(one_by_one) != sorted(files(one_by_one))
    assert one_by_one[:4] != sorted(one_by_one[:4])

    in_turns = shuffled_order(dataset, 0, seed = 3, lanes = 2)
    assert all(len(set(files(in_turns[start:start + 2]))) == 2 for start in range(0, 24, 2))
    assert all(len(set(files(in_turns[start:start + 8:2]))) == 1 for lane in range(2) for start in range(lane, 24, 8))


def test_views_that_are_not_used_are_not_decoded(tmp_path):
    """Broken ones are noticed when they are loaded."""
    write_chunks(scenes(3), tmp_path)
    content = torch.load(tmp_path / '000000.torch')
    images = content[1]['images']
    content[1]['images'] = [image if number == 2 else image[:len(image) * 9 // 10].clone() for number, image in enumerate(images)]
    torch.save(content, tmp_path / '000000.torch')
    scene = Chunks(tmp_path, Problems())[1]
    assert len(scene.views) == len(images)
    assert scene.views[2].load().shape == (3, 16, 16)
    with pytest.raises(BadView, match = 'synthetic-1'):
        scene.views[1].load()


def test_chunks_of_the_older_kind_of_file_are_read(tmp_path):
    write_chunks(scenes(2), tmp_path)
    content = torch.load(tmp_path / '000000.torch')
    torch.save(content, tmp_path / '000000.torch', _use_new_zipfile_serialization = False)
    assert open_dataset(tmp_path)[1].views[0].load().shape == (3, 16, 16)


def test_few_chunks_are_kept_open(tmp_path):
    write_chunks(scenes(20, num_views = 1, image_size = 8), tmp_path, scenes_per_file = 1)
    dataset = Chunks(tmp_path, Problems())
    assert [dataset[index].name for index in (*range(20), 0)][-1] == 'synthetic-0'
    assert len(dataset.open.results) == Chunks.KEPT_OPEN < 20


def test_a_photo_of_another_size_than_its_video_is_bad(tmp_path):
    write_chunks(scenes(1), tmp_path)
    content = torch.load(tmp_path / '000000.torch')
    content[0]['images'][2] = jpeg_of(torch.rand(3, 8, 16))
    torch.save(content, tmp_path / '000000.torch')
    views = read_scene(tmp_path).views
    assert views[1].load().shape == (3, 16, 16)
    with pytest.raises(BadView, match = 'must have the size of its scene, 16 × 16, but got 16 × 8'):
        views[2].load()


def test_bad_chunks_and_scenes_are_skipped(tmp_path):
    write_chunks(scenes(6), tmp_path, scenes_per_file = 2, with_index = False)
    torch.save([Malicious(str(tmp_path / 'owned'))], tmp_path / '000003.torch')
    (tmp_path / '000000.torch').write_bytes((tmp_path / '000000.torch').read_bytes()[:1000])
    torch.save(dict(key = 'no list'), tmp_path / '000004.torch')

    content = torch.load(tmp_path / '000001.torch')
    content[0]['cameras'][1, 7] = torch.nan
    content[0]['cameras'][2, 0] = torch.nan
    content[1]['cameras'][1, 2] = torch.nan
    content[1]['cameras'][2, 1] = -1.
    content[1]['images'][0] = content[1]['images'][0][:50]
    del content[1]['url']
    torch.save([*content, dict(key = 'broken')], tmp_path / '000001.torch')

    problems = Problems()
    with pytest.warns(UserWarning, match = '00000[034].torch'):
        dataset = open_dataset(tmp_path, problems)
    with pytest.warns(UserWarning, match = r'synthetic-[23]\), time [12]'):
        assert [len(dataset[index].views) for index in (0, 1, 3, 4)] == [2, 2, 4, 4]
    assert len(dataset) == 5
    with pytest.raises(ValueError, match = 'scene 2: must have a `key`'):
        dataset[2]
    with pytest.raises(ValueError, match = 'image: must be a readable image file'):
        dataset[1].views[0].load()
    assert not (tmp_path / 'owned').exists()
    assert '7 skipped' in problems.summary()
    assert all(name in problems.summary() for name in ('000000.torch', '000003.torch', '000004.torch', 'synthetic-2), time 1'))


def test_an_index_that_is_wrong_is_named(tmp_path):
    write_chunks(scenes(2), tmp_path)
    (tmp_path / 'index.json').write_text(json.dumps(dict(a = '000000.torch', b = 'missing.torch')))
    with pytest.raises(ValueError, match = r"must list files in its folder, but got \['missing.torch'\]"):
        open_dataset(tmp_path)
    (tmp_path / 'index.json').write_text(json.dumps(dict(a = '000000.torch', b = '000000.torch', c = '000000.torch')))
    with pytest.raises(ValueError, match = 'scene 2: must exist, because index.json lists it, but got 2 scenes'):
        open_dataset(tmp_path)[2]
    (tmp_path / 'index.json').write_text('[')
    with pytest.raises(BadView, match = r'index.json: must be a readable JSON file, but got Expecting value: line 1 column 2'):
        open_dataset(tmp_path)


# from datasets to batches

def source_of(folder, **changes):
    return DatasetSource(split_dataset(folder), **{**dict(num_inputs = 2, num_targets = 1, image_size = 16), **changes})


def test_held_out_scenes_are_never_trained_on(tmp_path):
    write_lvsm(scenes(10), tmp_path)
    source = source_of(tmp_path, frame_distances = (1, 3))
    held_out = {name.split('/')[0] for name in source.held_out().names}
    assert held_out == {'synthetic-0', 'synthetic-8'}
    trained = [name.split('/')[0] for step in range(2) for name in source.training_batch(step, 4).names]
    assert len(set(trained)) == 8
    assert not held_out & set(trained)


def test_train_and_test_folders_are_what_they_are_called(tmp_path):
    write_chunks(scenes(3), tmp_path / 'train')
    write_chunks([synthetic_scene(seed, num_views = 4, image_size = 16) for seed in (8, 9)], tmp_path / 'test')
    split = split_dataset(tmp_path)
    assert [scene.name for scene in split.training] == ['synthetic-0', 'synthetic-1', 'synthetic-2']
    assert [scene.name for scene in split.held_out] == ['synthetic-8', 'synthetic-9']


def test_a_batch_of_a_dataset_is_a_function_of_its_step(tmp_path):
    write_lvsm(scenes(10), tmp_path)
    a, b = source_of(tmp_path, frame_distances = (1, 3)), source_of(tmp_path, frame_distances = (1, 3))
    a.training_batch(0, 4)
    later, same = a.training_batch(5, 4), b.training_batch(5, 4)
    assert later.names == same.names
    assert torch.equal(later.input_rays, same.input_rays)
    assert torch.equal(torch.cat([a.sample(20 + index).target_images for index in range(4)]), same.target_images)


def test_an_unreadable_image_changes_no_other_batch_and_is_listed(tmp_path):
    write_lvsm(scenes(4), tmp_path)
    images = sorted((tmp_path / 'images' / 'synthetic-1').iterdir())
    images[1].write_bytes(images[1].read_bytes()[:-200])
    source = source_of(tmp_path, frame_distances = (1, 3))
    with pytest.warns(UserWarning, match = 'skipped synthetic-1/000001 00001.png'):
        names = [source.training_batch(step, 3).names for step in range(12)]
    assert '000001 00001.png' in source.split.training.problems.summary()
    assert not any('synthetic-1/000001' in name for batch in names for name in batch)

    again = source_of(tmp_path, frame_distances = (1, 3))
    with pytest.warns(UserWarning, match = 'skipped'):
        assert [again.training_batch(step, 3).names for step in reversed(range(12))] == names[::-1]


def test_a_dataset_that_is_all_bad_is_an_error(tmp_path):
    write_lvsm(scenes(3), tmp_path)
    for path in (tmp_path / 'images').rglob('*.png'):
        path.write_bytes(b'not an image')
    source = source_of(tmp_path, frame_distances = (2, 3))
    with pytest.warns(UserWarning, match = 'skipped'), pytest.raises(ValueError, match = r'data: must have at least one scene that can be used, but got none of 2[\s\S]*skipped:'):
        source.training_batch(0, 1)
    with pytest.warns(UserWarning, match = 'skipped'), pytest.raises(ValueError, match = 'held-out scene that can be used'):
        source.held_out()
    write_lvsm(scenes(1), tmp_path / 'one')
    with pytest.raises(ValueError, match = 'data: must have at least two scenes'):
        split_dataset(tmp_path / 'one')


def test_scenes_that_are_too_short_are_skipped(tmp_path):
    write_lvsm([*scenes(2, num_views = 5), replace(synthetic_scene(7, num_views = 2, image_size = 16), name = 'short')], tmp_path)
    source = source_of(tmp_path, num_inputs = 3, frame_distances = (3, 4))
    with pytest.warns(UserWarning, match = 'must have more views than the 3 inputs of a sample, but got 2'):
        names = {name.split('/')[0] for step in range(3) for name in source.training_batch(step, 2).names}
    assert names == {'synthetic-1'}


def test_short_videos_are_used_whole_with_a_warning(tmp_path):
    write_lvsm(scenes(3), tmp_path)
    with pytest.warns(UserWarning, match = 'some videos have fewer than 25 frames'):
        batch = source_of(tmp_path).training_batch(0, 2)
    assert batch.input_images.shape == (2, 2, 3, 16, 16)


def test_the_unit_is_that_of_a_videos_inputs_and_of_all_photos_of_a_set(tmp_path):
    video = replace(synthetic_scene(0, num_views = 8, image_size = 8), is_video = True)
    write_lvsm(scenes(2), tmp_path)
    source = source_of(tmp_path)
    for scene, defining in ((video, [2, 5]), (replace(video, is_video = False), list(range(8)))):
        poses = source.poses(scene, [2, 5, 4], 2)
        expected, _, _ = normalize_poses(torch.stack([scene.views[index].camera_to_world for index in defining]))
        assert torch.allclose(poses[:2], expected[[defining.index(2), defining.index(5)]], atol = 1e-6)


def test_a_broken_photo_of_the_only_scene_is_left_out(tmp_path):
    write_transforms(synthetic_scene(0, num_views = 6, image_size = 16), tmp_path)
    (tmp_path / 'images' / '0002.png').write_bytes((tmp_path / 'images' / '0002.png').read_bytes()[:-100])
    problems = Problems()
    with pytest.warns(UserWarning, match = 'skipped .*images/0002.png'):
        source = SceneSource(read_scene(tmp_path), num_inputs = 2, num_targets = 1, image_size = 16, problems = problems)
    assert source.names == [f'images/{index:04d}.png' for index in (1, 3, 4, 5, 0)]
    assert len(problems.found) == 1


@pytest.mark.parametrize('num_inputs', [1, 2, 4])
def test_views_of_a_video_are_drawn_from_a_stretch_of_it(num_inputs):
    generator = torch.Generator().manual_seed(0)
    lengths, starts, as_inputs = set(), set(), 0
    for _ in range(300):
        views = draw_video_views(60, num_inputs = num_inputs, num_targets = 3, frame_distances = (10, 20), generator = generator)
        inputs, targets = views[:num_inputs], views[num_inputs:]
        assert len(targets) == len(set(targets)) == 3
        assert inputs == sorted(set(inputs))
        if num_inputs > 1:
            assert 10 <= inputs[-1] - inputs[0] <= 20
            assert all(inputs[0] <= target <= inputs[-1] for target in targets)
            lengths.add(inputs[-1] - inputs[0])
            starts.add(inputs[0])
            as_inputs += bool(set(inputs) & set(targets))
    if num_inputs > 1:
        assert lengths == set(range(10, 21))
        assert min(starts) == 0
        assert max(starts) >= 45
        assert as_inputs > 20


def test_inputs_are_the_nearest_photos():
    scene = synthetic_scene(0, num_views = 40, image_size = 8)
    poses = torch.stack([view.camera_to_world for view in scene.views])
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        *inputs, target, other = draw_nearest_views(poses, num_inputs = 3, num_targets = 2, generator = generator)
        assert len({*inputs, target, other}) == 5
        distance = (poses[:, :3, 3] - poses[target, :3, 3]).norm(dim = -1)
        assert distance[inputs].mean() < distance.mean()


def test_portrait_and_landscape_photos_work_together(tmp_path):
    content = []
    for index, size in enumerate([(24, 16), (16, 24), (24, 16), (20, 20)]):
        save_image(torch.rand(3, *size), tmp_path / f'{index}.png')
        pose = opencv_to_opengl(known_cameras().camera_to_world)
        content.append(dict(file_path = f'{index}.png', fl_x = 20., cx = size[1] / 2, cy = size[0] / 2, w = size[1], h = size[0], transform_matrix = pose.tolist()))
    for name in ('a', 'b'):
        shutil.copytree(tmp_path, tmp_path.parent / 'both' / name)
        (tmp_path.parent / 'both' / name / 'transforms.json').write_text(json.dumps(dict(frames = content)))
    batch = source_of(tmp_path.parent / 'both').training_batch(0, 2)
    assert batch.input_images.shape == (2, 2, 3, 16, 16)


def test_real_datasets_are_recognised(shared):
    dataset = open_dataset(shared / 'scenes')
    assert len(dataset) >= 8
    assert dataset.format == 'transforms.json'
    assert open_dataset(shared / 'colmap_brighton').format == 'COLMAP model'

    # the same cameras, in two formats

    by_transforms = {view.name.split('/')[-1]: view for view in read_scene(shared / 'scenes' / 'brighton').views}
    for view in read_scene(shared / 'colmap_brighton').views:
        assert torch.allclose(view.intrinsics, by_transforms[view.name].intrinsics, atol = 1e-2)
        assert torch.allclose(view.camera_to_world[:3, :3], by_transforms[view.name].camera_to_world[:3, :3], atol = 1e-3)


def test_folders_of_chunks_keep_their_files_together(tmp_path):
    for name in ('acid', 're10k'):
        write_chunks([replace(scene, name = f'{name}-{scene.name}') for scene in scenes(4)], tmp_path / name, scenes_per_file = 2)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 8
    assert list(dataset.starts) == [0, 2, 4, 6]
    assert list(split_scenes(dataset).training.starts) == [0, 1, 3, 5]
    assert [dataset.name(index) for index in range(8)] == [dataset[index].name for index in range(8)]
    assert dataset.format == 'RealEstate10K chunks'
