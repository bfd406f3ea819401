"""Photos are decoded at a fraction of their size where they are far larger than they are needed, with the rays that the whole ones have."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from lvsm_pytorch.data import BadView, Problems, SceneSource, read_scene, synthetic_scene, write_transforms
from lvsm_pytorch.data.images import in_unit, load_image, load_reduced, resize_and_crop, save_image
from lvsm_pytorch.data.lazy_images import ImageFile, StoredSizes
from lvsm_pytorch.data.scene import View


def smooth(height, width):
    """A photo (3 h w) whose colours are smooth functions of place."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing = 'ij')
    return torch.stack((0.5 + 0.4 * torch.sin(9 * x + 2 * y), x * y, 0.5 + 0.4 * torch.cos(7 * y)))


@pytest.mark.parametrize('ending, size, at_least, factor', [
    ('png', (90, 130), (10, 10), 4), ('png', (90, 130), (30, 40), 1), ('png', (1210, 1213), (10, 10), 60),
    ('jpg', (90, 130), (10, 10), 4), ('jpg', (1210, 1213), (10, 10), 56), ('jpg', (403, 301), (32, 16), 4),
])
def test_a_reduced_photo_is_large_enough_and_says_by_how_much_it_is_smaller(tmp_path, ending, size, at_least, factor):
    path = tmp_path / f'a.{ending}'
    save_image(smooth(*size), path)
    image, stored, found = load_reduced(path, at_least)
    assert stored == size
    assert found == factor
    assert tuple(image.shape[1:]) == (size[0] // factor, size[1] // factor)
    assert all(length >= 2 * needed for length, needed in zip(image.shape[1:], at_least, strict = True)) or factor == 1
    whole = load_image(path)
    of_factor = whole[:, :size[0] // factor * factor, :size[1] // factor * factor].unfold(1, factor, factor).unfold(2, factor, factor).mean(dim = (-1, -2))
    assert image.dtype == torch.uint8
    assert (in_unit(image) - of_factor).abs().max() < 0.03


@pytest.mark.parametrize('ending', ['png', 'jpg'])
def test_a_fitted_photo_is_that_of_the_whole_one(tmp_path, ending):
    """Picture and rays: where the reduced copy lost columns, the principal point shows it."""
    save_image(smooth(403, 301), tmp_path / f'a.{ending}')
    intrinsics = torch.tensor([[250., 0., 140.], [0., 260., 210.], [0., 0., 1.]])
    view = View('a', torch.eye(4), intrinsics, ImageFile(tmp_path / f'a.{ending}'))
    image, matrix = view.fitted((24, 16))
    expected, of_whole = resize_and_crop(view.load(), intrinsics, (24, 16))
    assert (matrix - of_whole)[:2].abs().max() < 0.3   # the crop's middle is up to half a reduced pixel elsewhere

    # the colour along a ray is the same, wherever it lies in the two pictures

    ray = torch.cartesian_prod(torch.linspace(-0.2, 0.2, 5), torch.linspace(-0.3, 0.3, 5))

    def seen(picture, k):
        pixels = ray * k[:2].diagonal() + k[:2, 2]
        grid = pixels / torch.tensor([16., 24.]) * 2 - 1
        return torch.nn.functional.grid_sample(picture[None], grid[None, None], align_corners = False)[0, :, 0]

    assert (seen(image, matrix) - seen(expected, of_whole)).abs().max() < 0.02


def test_small_photos_are_read_as_ever(tmp_path):
    save_image(torch.rand(3, 40, 60), tmp_path / 'a.png')
    view = View('a', torch.eye(4), torch.eye(3), ImageFile(tmp_path / 'a.png'))
    image, intrinsics = view.fitted((20, 20))
    expected, same = resize_and_crop(view.load(), torch.eye(3), (20, 20))
    assert torch.equal(intrinsics, same)
    assert (image - expected).abs().max() < 1.6 / 255    # bytes are resized as bytes, in two passes


@pytest.mark.parametrize('filter', ['bicubic', 'lanczos'])
def test_bytes_for_workers_are_the_photo_that_others_get(tmp_path, filter):
    save_image(torch.rand(3, 40, 60), tmp_path / 'a.png')
    for load in (ImageFile(tmp_path / 'a.png'), lambda: load_image(tmp_path / 'a.png')):
        view = View('a', torch.eye(4), torch.eye(3), load)
        image, intrinsics = view.fitted_bytes((20, 24), filter = filter)
        expected, same = view.fitted((20, 24), filter = filter)
        assert image.dtype == torch.uint8
        assert torch.equal(intrinsics, same)
        assert (image.float() / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_a_photo_of_another_size_and_the_same_shape_is_resized_with_its_camera(tmp_path):
    """Of a folder one photo is opened; one that is stored larger than the others keeps its rays."""
    save_image(smooth(40, 60), tmp_path / 'a.png')
    file = ImageFile(tmp_path / 'a.png', expected = (20, 30))
    intrinsics = torch.tensor([[25., 0., 15.], [0., 25., 10.], [0., 0., 1.]])
    assert file().shape == (3, 20, 30)
    image, matrix = file.reduced(intrinsics, (20, 30))
    assert image.shape == (3, 40, 60)
    assert torch.allclose(matrix[:2], 2 * intrinsics[:2])
    with pytest.raises(BadView, match = 'must have the size of its scene, 30 × 30, but got 60 × 40'):
        ImageFile(tmp_path / 'a.png', expected = (30, 30))()


def test_of_photos_that_are_said_to_be_of_one_size_one_is_opened(tmp_path, monkeypatch):
    from lvsm_pytorch.data import lazy_images

    write_transforms(synthetic_scene(0, num_views = 9, image_size = 16), tmp_path)
    opened = []
    image_size = lazy_images.image_size
    monkeypatch.setattr(lazy_images, 'image_size', lambda path: opened.append(path) or image_size(path))
    scene = read_scene(tmp_path)
    assert len(opened) == 1
    assert {view.size for view in scene.views} == {(16, 16)}
    content = json.loads((tmp_path / 'transforms.json').read_text())
    for frame in content['frames']:
        frame.pop('w')
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    read_scene(tmp_path)
    assert len(opened) == 10    # where nothing says so, each is


def test_a_first_photo_that_is_broken_costs_itself_alone(tmp_path):
    sizes = StoredSizes()
    (tmp_path / 'a.png').write_bytes(b'nothing')
    save_image(torch.rand(3, 4, 6), tmp_path / 'b.png')
    with pytest.raises(BadView):
        sizes.of(tmp_path / 'a.png', 'kind')
    assert sizes.of(tmp_path / 'b.png', 'kind') == sizes.of(tmp_path / 'a.png', 'kind') == (4, 6)


@pytest.mark.parametrize('distortion', [dict(k1 = -0.1, k2 = 0.01, p1 = 0.001), dict(camera_model = 'OPENCV_FISHEYE', k1 = 0.02)])
def test_distorted_photos_are_undistorted_small(tmp_path, distortion):
    content = dict(fl_x = 300., fl_y = 310., cx = 205., cy = 148., w = 400, h = 300, **distortion, frames = [dict(file_path = 'a.png', transform_matrix = torch.eye(4).tolist())])
    save_image(smooth(300, 400), tmp_path / 'a.png')
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    view = read_scene(tmp_path).views[0]
    image, matrix = view.load.reduced(view.intrinsics, (24, 32))
    assert image.shape == (3, 50, 66)
    assert torch.allclose(matrix[:2], view.intrinsics[:2] / 6, rtol = 1e-5)
    whole = view.load()[:, :300, :396].unfold(1, 6, 6).unfold(2, 6, 6).mean(dim = (-1, -2))
    assert (image - whole)[:, 1:-1, 1:-1].abs().max() < 0.03


def test_colmaps_distorted_photos_are_undistorted_small(tmp_path):
    """As by COLMAP's own undistortion of the whole photo."""
    camera = pycolmap.Camera(camera_id = 1, model = 'OPENCV', width = 400, height = 300, params = [300., 310., 205., 148., -0.1, 0.01, 0.001, 0.])
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera)
    model.add_image_with_trivial_frame(pycolmap.Image(image_id = 1, name = 'a.png', camera_id = 1), pycolmap.Rigid3d(np.eye(4)[:3]))
    (tmp_path / 'sparse/0').mkdir(parents = True)
    (tmp_path / 'images').mkdir()
    model.write(str(tmp_path / 'sparse/0'))
    save_image(smooth(300, 400), tmp_path / 'images/a.png')
    view = read_scene(tmp_path).views[0]
    image, matrix = view.load.reduced(view.intrinsics, (24, 32))
    assert torch.allclose(matrix[:2], view.intrinsics[:2] / 6, rtol = 1e-5)
    whole = view.load()
    height, width = image.shape[1:]
    assert abs(height - whole.shape[1] / 6) <= 1
    y, x = torch.meshgrid(torch.arange(2, height - 2), torch.arange(2, width - 2), indexing = 'ij')
    assert (image[:, y, x] - whole[:, y * 6 + 3, x * 6 + 3]).abs().max() < 0.03


MEMORY = '''
import resource, sys
import torch
from lvsm_pytorch.data import SceneSource, read_scene
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
SceneSource(read_scene(sys.argv[1]), num_inputs = 2, num_targets = 1, image_size = 16)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
'''


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_large_photos(tmp_path):
    """Peaks of processes of their own: whole, each of these photos is 216 MB."""
    content = dict(fl_x = 4500., cx = 3000., cy = 1500., w = 6000, h = 3000, frames = [])
    Image.effect_noise((6000, 3000), 40).convert('RGB').save(tmp_path / 'first.jpg')
    grown = {}
    for count in (5, 15):
        for index in range(len(content['frames']), count):
            (tmp_path / f'{index:02d}.jpg').symlink_to(tmp_path / 'first.jpg')
            pose = torch.eye(4)
            pose[0, 3] = index
            content['frames'].append(dict(file_path = f'{index:02d}.jpg', transform_matrix = pose.tolist()))
        (tmp_path / 'transforms.json').write_text(json.dumps(content))
        run = subprocess.run([sys.executable, '-c', MEMORY, tmp_path], capture_output = True, text = True, check = True)
        grown[count] = int(run.stdout) / 1000 * (1 if sys.platform == 'linux' else 1e-3)
    assert grown[15] - grown[5] < 30
    assert grown[15] < 100


def test_any_error_of_a_file_costs_that_photo(tmp_path, monkeypatch):
    """Decoders of broken files raise whatever they like."""
    write_transforms(synthetic_scene(0, num_views = 6, image_size = 16), tmp_path)
    (tmp_path / 'images/0003.png').write_bytes(b'\x89PNG\r\n\x1a\n' + bytes(100))
    original = Image.Image.convert

    def convert(self, *arguments, **options):
        if '0004' in str(getattr(self, 'filename', '')):
            raise ZeroDivisionError('a decoder divides by nothing')
        return original(self, *arguments, **options)

    monkeypatch.setattr(Image.Image, 'convert', convert)
    problems = Problems()
    with pytest.warns(UserWarning, match = 'skipped'):
        source = SceneSource(read_scene(tmp_path), num_inputs = 2, num_targets = 1, image_size = 16, problems = problems)
    assert len(source.names) == 4
    assert len(problems.found) == 2


