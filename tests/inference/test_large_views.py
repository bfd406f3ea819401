"""Views larger than those of training."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import tiny_model

from lvsm_pytorch.data.synthetic import synthetic_scene
from lvsm_pytorch.geometry import Cameras, plucker_rays
from lvsm_pytorch.geometry.cameras import scale_intrinsics
from lvsm_pytorch.inference.large_views import input_size_for, render_tiled, render_view, rendered_size, starts, what_to_expect
from lvsm_pytorch.inference.pipeline import encode_photos
from lvsm_pytorch.lvsm.pretrained import TrainedFor


def camera_of(size):
    """With a principal point off the middle."""
    height, width = size
    pose = torch.eye(4, dtype = torch.float64)
    return Cameras(pose, torch.tensor([[0.9 * width, 0., 0.45 * width], [0., 0.9 * width, 0.55 * height], [0., 0., 1.]]))


def colors_of_rays(camera: Cameras, size):
    """(3 h w): a picture that is smooth, and says in each pixel where its ray goes."""
    return plucker_rays(*camera, image_size = size)[:3].float()


@pytest.mark.parametrize('size, tile', [((40, 64), (64, 64)), ((40, 100), (64, 64)), ((64, 65), (64, 64)), ((150, 130), (64, 48)), ((500, 20), (64, 48))])
def test_tiles_are_the_whole_where_pixels_depend_on_their_rays_alone(size, tile):
    sizes = []

    def render(camera, size):
        sizes.append(size)
        return colors_of_rays(camera, size)

    view = render_tiled(render, camera_of(size), size, tile)
    assert (view - colors_of_rays(camera_of(size), size)).abs().max() < 1e-5
    assert max(height for height, _ in sizes) <= tile[0]
    assert max(width for _, width in sizes) <= tile[1]


def test_no_seam_is_visible():
    """Tiles of any two brightnesses go over into each other in small steps."""
    brightness = iter(torch.tensor([0., 1.] * 50))
    view = render_tiled(lambda camera, size: next(brightness).expand(3, *size), camera_of((64, 300)), (64, 300), (64, 64))
    assert view.min() == 0
    assert view.max() == 1
    assert view.diff(dim = 2).abs().max() < 0.13


def test_tiles_cover_everything_and_overlap():
    for length in range(1, 400):
        found = starts(length, 64)
        assert found[0] == 0
        assert found[-1] == max(length - 64, 0)
        assert all(0 < later - earlier <= 56 for earlier, later in pairwise(found))


def model_of(*size):
    model = tiny_model(num_depth_planes = 4, plane_sweep = 'features', camera_encoding = 'prope', input_attends_target = False, max_image_size = 64)
    model.trained_for = TrainedFor('inputs', size, 2)
    return model.eval()


def test_sizes():
    model = model_of(64, 64)
    for size, rendered, inputs in [
        ((64, 64), (64, 64), (64, 64)),
        ((30, 50), (30, 50), (64, 64)),
        ((36, 128), (36, 128), (64, 64)),
        ((100, 90), (100, 90), (96, 96)),
        ((128, 128), (128, 128), (128, 128)),
        ((1024, 1024), (128, 128), (128, 128)),
        ((1080, 1920), (128, 228), (128, 128)),
    ]:
        assert (rendered_size(model, size), input_size_for(model, size)) == (rendered, inputs), size
    assert what_to_expect(model, (64, 48)) is None
    other = tiny_model(max_image_size = 64)    # without a plane sweep of features, no larger than in training
    assert (rendered_size(other, (128, 128)), input_size_for(other, (128, 128))) == ((64, 64), (64, 64))
    assert rendered_size(other, (36, 128)) == (36, 128)
    assert what_to_expect(model, (1080, 1920)) == (
        '1920 × 1080 is larger than in training (64 × 64): photos are encoded at 128 × 128, views rendered at 228 × 128 in 2 tiles and enlarged, so expect less detail than in a photo of this size'
    )


@pytest.mark.filterwarnings('ignore:.*are more pixels than those of max_image_size')
def test_a_large_view_is_the_small_one_enlarged():
    model = model_of(32, 32)
    views = synthetic_scene(3, num_views = 3, image_size = 64).views
    cameras = Cameras(torch.stack([view.camera_to_world for view in views]), torch.stack([view.intrinsics for view in views]))
    encoded = encode_photos(model, [view.load() for view in views[:2]], cameras[:2], input_size = (64, 64))
    expected = next(encoded.render(cameras[2:], (64, 64)))[0]
    assert torch.equal(render_view(encoded, cameras[2], (64, 64)), expected)
    larger = Cameras(cameras.camera_to_world, scale_intrinsics(cameras.intrinsics, (64, 64), (256, 256)))
    view = render_view(encoded, larger[2], (256, 256))
    assert view.shape == (3, 256, 256)
    small = torch.nn.functional.avg_pool2d(view, 4)
    assert (small - expected).abs().mean() < 0.1 * (expected - expected.mean()).abs().mean() + 0.01


PEAK = '''
import resource, sys, warnings, torch
sys.path.insert(0, sys.argv[1])
warnings.simplefilter('ignore')
torch.set_num_threads(1)
from test_large_views import camera_of, model_of, render_view, encode_photos, synthetic_scene, Cameras
model, views = model_of(64, 64), synthetic_scene(3, num_views = 2, image_size = 64).views
encoded = encode_photos(model, [view.load() for view in views], Cameras(torch.stack([view.camera_to_world for view in views]), torch.stack([view.intrinsics for view in views])))
for size in ((128, 128), (720, 2160)):
    assert render_view(encoded, camera_of(size), size).isfinite().all()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
'''


@pytest.mark.slow
def test_memory_is_that_of_a_tile():
    """Not of the view, which would have a hundred times as many pixels as that of the first line."""
    pytest.importorskip('resource')
    tests = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, '-c', f'import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{PEAK}', tests], capture_output = True, text = True, check = True)
    small, large = map(int, done.stdout.split())
    assert large - small < 250    # MB, of which two views of 1.6 million pixels are 40
