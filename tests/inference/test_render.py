"""Frames along a path, and films of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import counted_passes, times_of, tiny_model
from PIL import Image, ImageSequence

from lvsm_pytorch import LVSM, synthesize
from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import save_config
from lvsm_pytorch.data import cameras_of, synthetic_scene, write_chunks, write_transforms
from lvsm_pytorch.data.images import load_image, resize_and_crop
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.trajectories import interpolation
from lvsm_pytorch.inference.pipeline import encode_photos
from lvsm_pytorch.inference.render import FRAMES, render
from lvsm_pytorch.inference.scenes import FittedViews, inputs_of
from lvsm_pytorch.inference.video import write_video
from lvsm_pytorch.lvsm.pretrained import TrainedFor


@pytest.fixture
def here(tmp_path):
    """A folder with a model that was trained for two inputs, and photos."""
    model = tiny_model(num_depth_planes = 2, input_attends_target = False)
    model.trained_for = TrainedFor('inputs', (16, 24), 2)
    model.save_pretrained(tmp_path / 'model')
    write_transforms(synthetic_scene(1, num_views = 9, image_size = 24), tmp_path / 'photos')
    return tmp_path


def config(here, **changes):
    return RenderConfig(**{**dict(model = here / 'model', data = here / 'photos', out = here / 'out', frames = 7, video = 'none', device = 'cpu'), **changes})


@pytest.mark.parametrize('chunk_size', [1, 4])
def test_frames_are_those_of_synthesize(here, chunk_size):
    files = render(config(here, inputs = (0, 5), chunk_size = chunk_size))
    assert [file.name for file in files] == [f'{number:05}.png' for number in range(7)]
    model, scene = tiny_model(num_depth_planes = 2).from_pretrained(here / 'model'), synthetic_scene(1, num_views = 9, image_size = 24)
    seen = [scene.views[number] for number in (0, 5)]
    photos = cameras_of(seen)
    poses = interpolation(photos.camera_to_world, 7)
    intrinsics = scene.views[0].intrinsics - torch.tensor([[0., 0., 0.], [0., 0., 4.], [0., 0., 0.]])    # cut from 24 × 24
    unit = 1.35 * largest_offset(scene)
    expected = synthesize(model, [view.load() for view in seen], photos, target_cameras = Cameras(poses, intrinsics.expand(7, 3, 3)), size = (16, 24), unit = unit)
    found = torch.stack([load_image(file) for file in files])
    assert (found - expected).abs().max() < 0.02
    assert (found[0] - found[-1]).abs().max() > 0.05


def largest_offset(scene):
    """Of all cameras, in the frame of the mean one, from the book."""
    poses = cameras_of(scene.views).camera_to_world
    centre, forward, down = poses[:, :3, 3].mean(0), poses[:, :3, 2].mean(0), poses[:, :3, 1].mean(0)
    forward = forward / forward.norm()
    right = torch.linalg.cross(down, forward)
    right = right / right.norm()
    frame = torch.stack((right, torch.linalg.cross(forward, right), forward))
    return float(((poses[:, :3, 3] - centre) @ frame.T).abs().max())


def test_frames_that_are_there_are_not_rendered_again(here):
    frames = here / 'out' / FRAMES

    with counted_passes() as passes:
        whole = [load_image(file) for file in render(config(here, chunk_size = 1, out = here / 'whole'))]
    with counted_passes(at_most = len(passes) // 2), pytest.raises(KeyboardInterrupt):
        render(config(here, chunk_size = 1))
    assert 0 < len(list(frames.iterdir())) < 7

    for _ in range(2):
        before = times_of(frames)
        files = render(config(here, chunk_size = 1))
        assert all((load_image(file) - frame).abs().max() < 0.005 for file, frame in zip(files, whole, strict = True))
        assert before.items() <= times_of(frames).items()

    # a file that a failure of the power has left empty is no frame

    files[2].write_bytes(b'')
    assert (load_image(render(config(here, chunk_size = 1))[2]) - whole[2]).abs().max() < 0.005
    assert {name for name, time in times_of(frames).items() if time != before[name]} == {'00002.png'}

    with pytest.raises(ValueError, match = 'out: must be a new folder, or one with the same settings, but got .*inputs'):
        render(config(here, inputs = (0, 1)))
    render(config(here, inputs = (0, 1), overwrite = True))
    assert not set(before.values()) & set(times_of(frames).values())


def test_frames_do_not_wait_for_the_disk(here, monkeypatch):
    waits = []
    monkeypatch.setattr('os.fsync', waits.append)
    assert len(render(config(here, video = 'none'))) == 7
    assert len(waits) == 1    # of the settings


@pytest.mark.parametrize('path', ['interpolate', 'orbit', 'file'])
def test_films_show_all_frames(here, path):
    if path == 'file':
        path = str(here / 'way.json')
        (here / 'way.json').write_text(json.dumps(dict(camera_to_world = cameras_of(synthetic_scene(1, num_views = 5, image_size = 24).views).camera_to_world.tolist(), fps = 10)))
    count = 5 if path.endswith('json') else 7
    mp4, gif, *files = render(config(here, path = path, video = 'both', height = 15, width = 21))
    assert len(files) == count
    assert load_image(files[0]).shape == (3, 15, 21)

    import av

    with av.open(str(mp4)) as film:
        frames = [frame.to_ndarray(format = 'rgb24') for frame in film.decode(video = 0)]
        assert float(film.streams.video[0].average_rate) == (10 if path.endswith('json') else 30)
    assert len(frames) == count
    assert frames[0].shape == (16, 22, 3)    # H.264 has no odd sizes
    brightness = torch.tensor([0.299, 0.587, 0.114])    # H.264 keeps it; these views are noise, whose colours it blurs
    shown = torch.stack([torch.from_numpy(frame[:15, :21]) / 255 @ brightness for frame in frames])
    rendered = torch.stack([load_image(file).permute(1, 2, 0) @ brightness for file in files])
    assert (shown - rendered).abs().mean() < 0.05

    with Image.open(gif) as film:
        assert film.n_frames == count
        assert film.info['loop'] == 0
        shown = torch.stack([torch.from_numpy(np.array(frame.convert('RGB'))) / 255 for frame in ImageSequence.Iterator(film)])
        rendered = torch.stack([load_image(file).permute(1, 2, 0) for file in files])
        assert shown.shape == rendered.shape
        assert (shown - rendered).abs().mean() < 0.05


def test_a_film_has_an_ending_that_is_known(tmp_path):
    with pytest.raises(ValueError, match = r"video: must be frames in a file that ends with one of \['.mp4', '.gif'\]"):
        write_video([tmp_path / 'a.png'], tmp_path / 'film.avi', 30)


def test_inputs_are_spread_over_the_scene(here):
    model = tiny_model()
    model.trained_for = TrainedFor('inputs', (16, 16), 3)
    scene = synthetic_scene(1, num_views = 30, image_size = 8)
    chosen = inputs_of(config(here), model, FittedViews(scene, (8, 8)))
    assert len(set(chosen)) == 3
    video = replace(scene, is_video = True)
    assert inputs_of(config(here), model, FittedViews(video, (8, 8))) == (0, 14, 29) or inputs_of(config(here), model, FittedViews(video, (8, 8))) == (0, 15, 29)
    assert inputs_of(config(here, inputs = (4,)), model, FittedViews(scene, (8, 8))) == (4,)


def test_built_in_scenes_and_videos_are_rendered_too(here):
    assert len(render(config(here, data = None, frames = 2, out = None))) == 2
    assert (here / 'model' / 'render' / FRAMES / '00001.png').is_file()
    write_chunks([replace(synthetic_scene(seed, num_views = 6, image_size = 24), name = f'video {seed}', is_video = True) for seed in range(2)], here / 'chunks')
    first, second = (load_image(render(config(here, data = here / 'chunks', scene = scene, frames = 1, out = here / str(scene)))[0]) for scene in range(2))
    assert (first - second).abs().max() > 0.05


@pytest.mark.parametrize('changes, message', [
    (dict(model = 'nowhere'), 'folder_or_hub_id'),
    (dict(data = 'nowhere'), 'data: must be'),
    (dict(path = 'nowhere.json'), 'path: must be interpolate, orbit, held-out or a readable JSON file'),
    (dict(scene = 3), 'scene: must be from 0 up to below 1'),
    (dict(inputs = (0, 9)), 'inputs: must be numbers from 0 up to below 9'),
    (dict(frames = 0), 'frames: must be above 0'),
    (dict(fps = 0.), 'fps: must be above 0'),
    (dict(chunk_size = 0), 'chunk_size: must be above 0'),
    (dict(height = 16), 'height, width: must be given together'),
    (dict(height = 0, width = 16), 'height, width: must be at least 1'),
])
def test_mistakes_are_named(here, changes, message):
    changes = {name: here / value if name in ('model', 'data') else value for name, value in changes.items()}
    with pytest.raises(ValueError, match = message):
        render(config(here, **changes))


@pytest.mark.filterwarnings('ignore:target_rays of 48 × 80')
def test_a_path_of_another_size_is_rendered(here):
    """As `lvsm view` writes it of a wide window: larger than any image that the model was made for."""
    path = dict(camera_to_world = [torch.eye(4).tolist()] * 2, intrinsics = [[60., 0., 40.], [0., 60., 21.], [0., 0., 1.]], size = [42, 80])
    (here / 'way.json').write_text(json.dumps(path))
    for frame in render(config(here, path = str(here / 'way.json'))):
        assert load_image(frame).shape == (3, 42, 80)


@pytest.mark.filterwarnings('ignore:.*more pixels than those of max_image_size')
@pytest.mark.parametrize('plane_sweep, best', [('colors', 32), ('features', 48)])
def test_larger_frames_are_rendered_as_is_best(here, plane_sweep, best):
    """With a plane sweep of features, photos are encoded and frames rendered at 48 × 48; with others as in training, and enlarged."""
    torch.manual_seed(0)
    model = LVSM(32, max_image_size = 32, patch_size = 8, depth = 1, dim_head = 16, num_depth_planes = 4, plane_sweep = plane_sweep)
    model.save_pretrained(here / 'bare')
    frame, = render(config(here, model = here / 'bare', inputs = (0, 5), height = 48, width = 48, frames = 1))
    seen = [synthetic_scene(1, num_views = 9, image_size = 24).views[number] for number in (0, 5)]
    photos, images = cameras_of(seen), [view.load() for view in seen]

    def by(size):
        _, intrinsics = resize_and_crop(images[0], seen[0].intrinsics, (size, size))
        view = synthesize(model.eval(), images, photos, Cameras(photos.camera_to_world[0], intrinsics), (size, size), input_size = (size, size))
        return torch.nn.functional.interpolate(view.unsqueeze(0), (48, 48), mode = 'bicubic').clamp(0, 1)[0]

    # in the mean: photos in files are resized as bytes, which rounds to a 255th

    off, off_by_the_other = ((load_image(frame) - by(size)).abs().mean() for size in (best, 80 - best))
    assert off < 0.01
    assert off_by_the_other > 1.2 * off


@pytest.mark.filterwarnings('ignore:.*more pixels than those of max_image_size')
@pytest.mark.parametrize('inputs', [None, (0, 5)])
def test_large_frames_say_what_to_expect_and_come_one_by_one(here, capsys, monkeypatch, inputs):
    """The line is there before photos are encoded, a bar from the beginning, and the first frame before the second is begun."""
    out, seen = here / 'out', []
    from lvsm_pytorch.inference import large_views, nearest
    from lvsm_pytorch.inference import render as render_module

    def counted(*arguments):
        seen.append(sorted(path.name for path in (out / FRAMES).glob('*.png')))
        return large_views.render_view(*arguments)

    def encoded(*arguments, **options):
        printed = capsys.readouterr()
        seen.append(('210 × 120 is larger than in training (24 × 16)' in printed.out, '0/3' in printed.err))
        return encode_photos(*arguments, **options)

    for module in (nearest, render_module):
        monkeypatch.setattr(module, 'render_view', counted)
        monkeypatch.setattr(module, 'encode_photos', encoded)

    files = render(config(here, height = 120, width = 210, frames = 3, inputs = inputs))
    assert [load_image(file).shape for file in files] == [(3, 120, 210)] * 3
    assert seen[0] == (True, True)
    frames = [each for each in seen if isinstance(each, list)]
    assert frames[0] == []
    assert [len(each) for each in frames] == sorted(len(each) for each in frames)
    assert len(frames[-1]) == 2


def test_a_path_of_nerfstudio_lies_in_the_world_of_the_runs_own_data(here):
    content = json.loads((here / 'photos' / 'transforms.json').read_text())
    turn = torch.eye(4)[[0, 2, 1, 3]] * torch.tensor([1., 1., -1., 1.]).unsqueeze(-1)
    frames = [dict(camera_to_world = [number for row in frame['transform_matrix'] for number in row], fov = 60., aspect = 1.) for frame in content['frames'][:1]]
    (here / 'camera_path.json').write_text(json.dumps(dict(camera_path = frames, render_height = 16, render_width = 16)))
    (here / 'dataparser_transforms.json').write_text(json.dumps(dict(transform = torch.eye(4)[:3].tolist(), scale = 1.)))

    def rendered(name, data):
        return load_image(render(config(here, data = data, path = str(here / 'camera_path.json'), out = here / name))[0])

    before = rendered('before', here / 'photos')
    (here / 'photos' / 'transforms.json').write_text(json.dumps(dict(content, applied_transform = turn[:3].tolist())))
    given = rendered('given', here / 'photos')
    save_config(here / 'model', TrainConfig(data = here / 'photos'))
    assert (rendered('own', None) - given).abs().max() < 0.02
    assert (given - before).abs().max() > 0.05
