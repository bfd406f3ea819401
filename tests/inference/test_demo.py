"""The model that comes with the library, and its demo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from lvsm_pytorch import LVSM
from lvsm_pytorch.cli import main
from lvsm_pytorch.configs.demo import DemoConfig
from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.yaml import config_beside, load_config
from lvsm_pytorch.data import SyntheticSource, WorldSource, cameras_of, read_scene
from lvsm_pytorch.evaluation.evaluate import evaluate
from lvsm_pytorch.evaluation.index import Entry, write_index
from lvsm_pytorch.evaluation.metrics import blurred_mean, render_batch, score
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.view_selection import nearest_views
from lvsm_pytorch.inference.demo import show
from lvsm_pytorch.inference.pipeline import synthesize
from lvsm_pytorch.lvsm.losses import psnr
from lvsm_pytorch.packaged import PHOTOS, PRETRAINED, SOLIDS, folder_for, folder_of, packaged_models
from lvsm_pytorch.training.runs import model_of


def test_models_come_with_the_library_and_are_small():
    assert packaged_models() == [PHOTOS, SOLIDS]
    files = [file for name in packaged_models() for file in (PRETRAINED / name).iterdir()]
    assert {file.name for file in files} == {'README.md', 'config.json', 'config.yaml', 'model.safetensors'}
    assert sum(file.stat().st_size for file in files) < 20_000_000


@pytest.mark.parametrize('name', [PHOTOS, SOLIDS])
def test_they_are_what_their_presets_make(name):
    config = config_beside(Path(name))
    assert config is not None
    packaged = LVSM.from_pretrained(name).config
    with torch.device('meta'):
        assert model_of(load_config(name)).config == model_of(config).config == packaged


def test_views_of_photos_without_training():
    """Of the worlds that none has trained with; photos themselves are in `evaluation/test_photo_sets.py`, where they are at hand."""
    model = LVSM.from_pretrained(PHOTOS)
    batch = WorldSource(num_inputs = 3, num_targets = 1, image_size = 128).held_out(4)
    views = [
        synthesize(model, batch.input_images[index], batch.cameras[index, :3], batch.cameras[index, 3:], (128, 128))
        for index in range(4)
    ]
    found = score(torch.stack(views), batch.target_images).psnr.mean()
    assert found > blurred_mean(batch).psnr.mean() + 2


def test_views_of_real_photos_without_training(shared):
    scene = read_scene(shared / 'scenes' / 'plush')
    poses = cameras_of(scene.views).camera_to_world
    others = [index for index in range(len(scene.views)) if index % 8]
    chosen = [others[index] for index in nearest_views(poses[others], poses[8], 3)] + [8]
    images, intrinsics = zip(*(scene.views[index].fitted((128, 128)) for index in chosen), strict = True)
    cameras = Cameras(poses[chosen], torch.stack(intrinsics))
    view = synthesize(LVSM.from_pretrained(PHOTOS), images[:3], cameras[:3], cameras[3], (128, 128))
    assert psnr(view, images[3]) > 25


def test_it_renders_held_out_scenes_without_a_network(monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    model = LVSM.from_pretrained(SOLIDS)
    assert next(model.parameters()).dtype == torch.float32
    assert model.trained_for is not None
    source = SyntheticSource(num_inputs = model.trained_for.num_inputs, num_targets = 1, image_size = model.trained_for.image_size[0])
    batch = source.held_out(4)
    found = score(render_batch(model, batch, batch_size = 4), batch.target_images).psnr.mean()
    assert found > blurred_mean(batch).psnr.mean() + 4


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder_of(SOLIDS) == PRETRAINED / SOLIDS
    assert folder_of('else') == Path('else')
    LVSM.from_size('tiny').save_pretrained(SOLIDS)
    assert folder_of(SOLIDS) == Path(SOLIDS)
    assert LVSM.from_pretrained(SOLIDS).dim == 64


def test_what_is_made_with_it_lies_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder_for('render', Path(SOLIDS)) == Path(f'{SOLIDS}-render')
    Path('run').mkdir()
    assert folder_for('render', Path('run')) == Path('run/render')
    index = tmp_path / 'index.json'
    write_index({'synthetic-3': Entry((0, 1), (2,))}, index)
    evaluate(EvaluateConfig(model = Path(SOLIDS), index = index, image_size = 64, robustness_scenes = 0, device = 'cpu'))
    assert (tmp_path / f'{SOLIDS}-evaluation' / 'report.json').is_file()
    assert LVSM.from_pretrained(SOLIDS).dim > 64


def test_an_unknown_name_is_an_error_that_names_it():
    with pytest.raises(ValueError, match = rf"must be an existing folder, one of \['{PHOTOS}', '{SOLIDS}'\], or a hub id"):
        LVSM.from_pretrained('solid')


@pytest.mark.slow
def test_the_demo_shows_an_orbit_and_a_comparison(tmp_path, capsys):
    comparison, orbit = show(DemoConfig(out = tmp_path / 'out', scenes = (5, 6), frames = 3, device = 'cpu'))
    assert (tmp_path / 'out') == comparison.parent == orbit.parent
    with Image.open(orbit) as film, Image.open(comparison) as picture:
        assert getattr(film, 'n_frames', 1) == 3
        assert film.width > 2 * 256
        assert picture.height > 5 * 128
    printed = capsys.readouterr().out
    assert f'8 held-out scenes, by {SOLIDS}' in printed
    assert 'blurred mean of the inputs' in printed


@pytest.mark.parametrize('told, message', [
    (['--scenes', '1', '1000'], r'scenes: must be numbers from 0 up to below 1000, but got \(1, 1000\)'),
    (['--frames', '0'], 'frames: must be at least 1, but got 0'),
    (['--device', 'abacus'], 'device: must be an available device, but got abacus'),
])
def test_mistakes_are_named(told, message, tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['lvsm', 'demo', '--out', str(tmp_path), *told])
    with pytest.raises(SystemExit, match = message):
        main()
