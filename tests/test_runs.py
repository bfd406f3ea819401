"""Runs and commands from anywhere: other working directories, second films and reports, terminals of any encoding, viewers that are stopped."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import tiny_model

from lvsm_pytorch import cli
from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import data_beside, load_run_config, save_config
from lvsm_pytorch.data import synthetic_scene, write_transforms
from lvsm_pytorch.data.images import save_image
from lvsm_pytorch.evaluation.evaluate import evaluate
from lvsm_pytorch.evaluation.records import REPORT
from lvsm_pytorch.inference.render import FRAMES, render, unique_files
from lvsm_pytorch.inference.scenes import FittedViews
from lvsm_pytorch.lvsm.pretrained import TrainedFor


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder, in which one is, with a run of photos that are named relative to it, as earlier versions named them."""
    model = tiny_model(input_attends_target = False)
    model.trained_for = TrainedFor('inputs', (16, 16), 2)
    model.save_pretrained(tmp_path / 'run')
    save_config(tmp_path / 'run', TrainConfig(data = Path('photos'), image_size = 16, num_inputs = 2, num_targets = 1, pose_frame = 'inputs'))
    write_transforms(synthetic_scene(1, num_views = 9, image_size = 24), tmp_path / 'photos')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def film(here, **changes):
    return render(RenderConfig(**{**dict(model = here / 'run', frames = 2, video = 'none', device = 'cpu'), **changes}))


# from other folders, and a second time

def test_a_second_film_goes_beside_the_first(here):
    assert film(here, path = 'orbit')[0] == here / 'run/render' / FRAMES / '00000.png'
    before = (here / 'run/render' / FRAMES / '00000.png').read_bytes()
    assert film(here, path = 'interpolate')[0].parents[1] == here / 'run/render-2'
    assert film(here, path = 'orbit', frames = 3)[0].parents[1] == here / 'run/render-3'
    assert film(here, path = 'held-out')[0] == here / 'run/render-4/comparison.png'
    assert film(here, path = 'interpolate')[0].parents[1] == here / 'run/render-2'    # the same once more is the same film
    assert film(here, path = 'held-out')[0] == here / 'run/render-4/comparison.png'
    assert (here / 'run/render' / FRAMES / '00000.png').read_bytes() == before


def test_a_folder_that_is_named_has_one_film_and_no_files_of_others(here):
    film(here, path = 'orbit', out = here / 'film')
    with pytest.raises(ValueError, match = r'out: must be a new folder, or one with the same settings.*path orbit instead of interpolate') as error:
        film(here, path = 'interpolate', out = here / 'film')
    assert max(map(len, str(error.value).replace(str(here), '').split())) < 40    # no hashes in full
    film(here, path = 'interpolate', out = here / 'film', overwrite = True)
    (here / 'mine' / FRAMES).mkdir(parents = True)
    save_image(torch.rand(3, 4, 4), here / 'mine' / FRAMES / '00000.png')
    for overwrite in (False, True):
        with pytest.raises(ValueError, match = 'with other files'):
            film(here, path = 'orbit', out = here / 'mine', overwrite = overwrite)
    (here / 'pictures').mkdir()
    save_image(torch.rand(3, 4, 4), here / 'pictures/comparison.png')
    with pytest.raises(ValueError, match = 'folder: must have no files that would be replaced'):
        film(here, path = 'held-out', out = here / 'pictures')


def test_a_second_report_goes_beside_the_first(here):
    settings = dict(model = here / 'run', robustness_scenes = 0, device = 'cpu', allow_missing = True)
    evaluate(EvaluateConfig(**settings))
    evaluate(EvaluateConfig(**settings, resize_filter = 'lanczos'))
    evaluate(EvaluateConfig(**settings))
    assert [(here / 'run' / name / REPORT).is_file() for name in ('evaluation', 'evaluation-2', 'evaluation-3')] == [True, True, False]


def test_a_run_is_asked_from_another_folder(here, tmp_path, monkeypatch):
    assert data_beside(Path('run')) == Path('photos')
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    assert data_beside(here / 'run') == here / 'photos'
    assert data_beside(Path('../run')).resolve() == (here / 'photos').resolve()
    assert len(film(here, path = 'orbit')) == 2
    assert len(film(here, path = 'held-out')) == 3


def test_a_run_remembers_where_its_photos_lie(here, monkeypatch):
    from lvsm_pytorch.training.loop import train

    train(TrainConfig(
        data = Path('photos'), out = Path('trained'), steps = 1, batch_size = 1, dim = 32, depth = 1, dim_head = 16, image_size = 16, num_inputs = 2, num_targets = 1, tensorboard = False, device = 'cpu',
    ))
    assert load_run_config(here / 'trained').data == here / 'photos'


def test_views_that_differ_by_their_endings_have_files_of_their_own():
    assert unique_files(['a/1.png', 'a/2.jpg']) == ['a_1.png', 'a_2.png']
    assert len(set(unique_files(['a/1.png', 'a/1.jpg', 'a/2.jpg']))) == 3


def test_a_photo_that_cannot_be_read_costs_itself_in_a_film(here):
    photos = sorted((here / 'photos/images').iterdir())
    names = {view.name for view in synthetic_views(here)}
    for path in photos:
        if f'images/{path.name}' in names:
            path.write_bytes(path.read_bytes()[:-60])
    with pytest.warns(UserWarning, match = 'skipped photos/images/'):
        assert len(film(here, path = 'interpolate')) == 2
    bad = int(next(iter(names)).split('/')[1].split('.')[0])
    with pytest.warns(UserWarning, match = 'skipped'), pytest.raises(ValueError, match = f'inputs: must be photos that can be read, but got {bad}'):
        film(here, path = 'interpolate', inputs = (bad,), out = here / 'named')


def synthetic_views(here):
    """Those that a film would be made of."""
    from lvsm_pytorch.data import read_scene

    scene = read_scene(here / 'photos')
    return [scene.views[number] for number in FittedViews(scene, (16, 16)).some_inputs(2)]


def test_where_no_photo_can_be_read_it_is_an_error():
    scene = synthetic_scene(0, num_views = 3, image_size = 8)

    def broken():
        from lvsm_pytorch.data import BadView

        raise BadView('broken')

    scene = replace(scene, views = tuple(replace(view, load = broken) for view in scene.views))
    with pytest.warns(UserWarning, match = 'skipped'), pytest.raises(ValueError, match = 'must have a photo that can be read, but got none of 3'):
        FittedViews(scene, (8, 8)).some_inputs(2)


# terminals

@pytest.mark.parametrize('encoding', ['ascii', 'cp437', 'cp932', 'latin-1', 'cp1252', 'utf-8'])
@pytest.mark.parametrize('command', ['--help', 'train --help', 'inspect --data photos --pairs 2'])
def test_no_command_ends_because_of_a_letter(here, monkeypatch, encoding, command):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding = encoding)
    monkeypatch.setattr(sys, 'stdout', stream)
    monkeypatch.setattr(sys, 'argv', ['lvsm', *command.split()])
    with contextlib.suppress(SystemExit):    # as help ends
        cli.main()
    stream.flush()
    text = written.getvalue().decode(encoding)
    assert len(text) > 200
    if 'inspect' in command:
        assert ('24 x 24' if encoding in ('ascii', 'cp437') else '24 × 24') in text
        assert (here / 'lvsm-inspect/cameras.png').is_file()


def test_letters_that_a_terminal_lacks_are_shown_by_others():
    cli.let_every_terminal_show_it()
    assert '3 × 4 → 5°…│─╭ 漢'.encode('ascii', errors = 'lvsm') == b'3 x 4 -> 5 degrees...|-+ ?'
    with pytest.raises(UnicodeDecodeError):
        b'\xff'.decode('utf-8', errors = 'lvsm')


# viewers

@pytest.mark.slow
@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_viewer_leaves_no_traces(here, stop):
    pytest.importorskip('viser')
    environment = {**os.environ, 'PYTHONUNBUFFERED': '1'}
    command = [sys.executable, '-m', 'lvsm_pytorch', 'view', '--model', 'run', '--port', '8471', '--device', 'cpu']
    process = subprocess.Popen(command, stdout = subprocess.PIPE, stderr = subprocess.PIPE, text = True, env = environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(stop)
    out, errors = process.communicate(timeout = 120)
    assert 'Walk through the scene' in line, errors
    assert process.returncode == 0
    assert 'stopped' in out
    assert not errors.strip()


# imports

@pytest.mark.slow
def test_the_import_survives_where_warnings_are_errors():
    """x-transformers compiles a function by torch.jit.script, which torch deprecates; the program's own filters stay."""
    program = '''
import warnings
warnings.simplefilter('error')
before = list(warnings.filters)
import lvsm_pytorch
lvsm_pytorch.LVSM
assert warnings.filters[:len(before)] == before or set(before) <= set(warnings.filters)
try:
    warnings.warn('another one', DeprecationWarning)
except DeprecationWarning:
    print('survived')
'''
    run = subprocess.run([sys.executable, '-c', program], capture_output = True, text = True, check = False)
    assert run.stdout.strip() == 'survived', run.stderr
    assert not run.stderr
