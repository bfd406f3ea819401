from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from plain_lvsm import random_weights
from safetensors.torch import load_file

from lvsm_pytorch import LVSM
from lvsm_pytorch.checkpoint import to_official
from lvsm_pytorch.config import TrainConfig, config_from_yaml, config_to_yaml
from lvsm_pytorch.data import synthetic_scene, write_lvsm, write_transforms
from lvsm_pytorch.evaluate import paint, score
from lvsm_pytorch.render import RenderConfig, render
from lvsm_pytorch.runs import load_run, model_of, pick_device
from lvsm_pytorch.train import learning_rate, optimizer_of, source_of, train

TINY = dict(image_size = 16, dim = 32, depth = 1, dim_head = 16, steps = 12, batch_size = 2, evaluate_every = 6, warmup_steps = 2, device = 'cpu')


@pytest.fixture(scope = 'module')
def photos(tmp_path_factory):
    """A transforms.json folder of 12 views."""
    folder = tmp_path_factory.mktemp('data') / 'photos'
    write_transforms(synthetic_scene(1, num_views = 12, image_size = 24), folder)
    return folder


@pytest.fixture(scope = 'module')
def trained(photos, tmp_path_factory):
    run = tmp_path_factory.mktemp('runs') / 'run'
    train(TrainConfig(data = photos, out = run, **TINY))
    return run


def size_of(path):
    with Image.open(path) as file:
        return file.size


def test_a_run_leaves_its_files(trained, photos):
    assert sorted(p.name for p in trained.iterdir()) == ['comparison.png', 'config.json', 'config.yaml', 'metrics.jsonl', 'model.safetensors']

    records = [json.loads(line) for line in (trained / 'metrics.jsonl').read_text().splitlines()]
    assert [record['step'] for record in records] == [6, 10, 12]
    assert {'loss', 'seconds', 'learning_rate'} <= set(records[1])
    assert {'model_psnr', 'model_ssim', 'copy_psnr', 'blur_psnr'} <= set(records[-1])

    config, model = load_run(trained)
    assert config == TrainConfig(data = photos, out = trained, pose_frame = 'scene', **TINY)
    assert not model.training
    assert model.trained_for[:4] == ('scene', (16, 16), 2, None)
    assert size_of(trained / 'comparison.png')[0] > 400


def test_held_out_views_are_rendered(trained, photos, tmp_path):
    figures = render(RenderConfig(run = trained, data = photos, out = tmp_path / 'views', device = 'cpu'))
    assert sorted(p.name for p in (tmp_path / 'views').iterdir()) == ['comparison.png', 'images_0000.png', 'images_0008.png']
    assert size_of(tmp_path / 'views' / 'images_0008.png') == (16, 16)

    last = json.loads((trained / 'metrics.jsonl').read_text().splitlines()[-1])
    assert figures['model_psnr'] == pytest.approx(last['model_psnr'], abs = 1e-3)

    render(RenderConfig(run = trained, device = 'cpu'))
    assert (trained / 'render' / 'comparison.png').is_file()


def test_training_is_learning(photos, tmp_path):
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'steps': 150, 'dim': 64, 'batch_size': 8, 'evaluate_every': 1000})
    untrained = score(paint(model_of(config), source_of(config).held_out_batch()), source_of(config).held_out_batch().target_images)
    assert train(config)['model_psnr'] > untrained.psnr.mean() + 3


def test_the_same_seed_gives_the_same_run(photos, tmp_path):
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        train(TrainConfig(data = photos, out = tmp_path / name, seed = seed, **TINY))
    a, b, c = (load_file(tmp_path / name / 'model.safetensors') for name in 'abc')
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a['to_pixels.weight'], c['to_pixels.weight'])


def test_a_run_is_not_written_over(trained, photos):
    config = TrainConfig(data = photos, out = trained, **TINY)
    with pytest.raises(ValueError, match = 'out: must be a new folder.*--overwrite'):
        train(config)


def test_a_loss_that_is_no_number_stops_the_run(photos, tmp_path):
    with pytest.raises(ValueError, match = 'loss: must be a number.*learning-rate'):
        train(TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'learning_rate': 1e30, 'max_grad_norm': 1e30}))


def test_the_learning_rate_rises_and_falls():
    config = TrainConfig(steps = 100, warmup_steps = 10, learning_rate = 1.)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.98, abs = 0.02)
    assert rates.index(max(rates)) == 9
    assert rates[-1] < 1e-3


def test_norms_have_no_weight_decay(trained):
    config, model = load_run(trained)
    matrices, vectors = optimizer_of(model, config).param_groups
    assert all(p.ndim > 1 for p in matrices['params'])
    assert all(p.ndim == 1 for p in vectors['params'])
    assert (matrices['weight_decay'], vectors['weight_decay']) == (0.05, 0)
    assert len(matrices['params']) + len(vectors['params']) == len(list(model.parameters()))


def test_the_model_is_as_the_config_says():
    model = model_of(TrainConfig(**{**TINY, 'input_attends_target': False, 'gradient_checkpointing': True}))
    assert not model.input_attends_target
    assert model.decoder.gradient_checkpointing
    assert model_of(TrainConfig(**TINY)).input_attends_target
    assert model_of(TrainConfig(pose_frame = 'inputs', **TINY)).trained_for == ('inputs', (16, 16), 2, 3., None)


def test_a_run_on_many_scenes(tmp_path, capsys):
    write_lvsm([synthetic_scene(seed, num_views = 5, image_size = 16) for seed in range(4)], tmp_path / 'data')
    image = sorted((tmp_path / 'data' / 'images' / 'synthetic-2').iterdir())[1]
    image.write_bytes(b'broken')
    with pytest.warns(UserWarning, match = 'skipped synthetic-2/000001'):
        figures = train(TrainConfig(data = tmp_path / 'data', out = tmp_path / 'run', num_targets = 2, min_frame_distance = 2, max_frame_distance = 4, **TINY))
    assert figures['model_psnr'] > 5
    printed = capsys.readouterr().out
    assert "LVSM authors' JSON, 4 scenes" in printed
    assert '1 skipped:\n  synthetic-2/000001 00001.png' in printed
    assert load_run(tmp_path / 'run')[0].pose_frame == 'inputs'


# config

def test_a_config_round_trips(photos):
    assert source_of(TrainConfig()).frame == 'inputs'
    assert source_of(TrainConfig(data = photos)).frame == 'scene'
    for config in (TrainConfig(), TrainConfig(data = photos, learning_rate = 1e-5, steps = 3, pose_frame = 'inputs')):
        assert config_from_yaml(config_to_yaml(config)) == config


@pytest.mark.parametrize('text, message', [
    ('lerning_rate: 1', 'Did you mean learning_rate'),
    ('zzz: 1', 'Known are'),
    ('just words', 'mapping'),
    ('image_size: 60', 'image_size: must be a multiple of patch_size 8, but got 60. For example 56'),
    ('steps: 0', 'steps: must be at least 1'),
    ('learning_rate: -1', 'above 0'),
    ('min_frame_distance: 300', 'min_frame_distance, max_frame_distance: must be at least 1, in this order'),
    ('pose_frame: world', 'pose_frame: must be scene or inputs'),
])
def test_wrong_configs_are_named(text, message):
    with pytest.raises(ValueError, match = message):
        config_from_yaml(text)


def test_a_folder_that_is_no_run_is_named(tmp_path, trained):
    with pytest.raises(ValueError, match = 'run: must be a folder that `lvsm train` wrote'):
        load_run(tmp_path)
    (tmp_path / 'config.yaml').write_text((trained / 'config.yaml').read_text())
    with pytest.raises(ValueError, match = 'must have config.json and model.safetensors'):
        load_run(tmp_path)


def test_a_device_that_is_not_here_is_named():
    with pytest.raises(ValueError, match = 'device: must be a device that is here, but got nonsense'):
        pick_device('nonsense')
    assert pick_device('cpu').type == 'cpu'


# the command

def lvsm(*arguments):
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', 'from lvsm_pytorch.cli import main; main()', *map(str, arguments)], capture_output = True, text = True)


def test_the_command_trains_and_renders(photos, tmp_path):
    options = [word for name, value in TINY.items() for word in (f'--{name.replace("_", "-")}', value)]
    result = lvsm('train', '--data', photos, '--out', tmp_path / 'run', *options)
    assert result.returncode == 0, result.stderr
    for word in ('held out', 'model', 'blurred mean', 'copied', 'comparison.png'):
        assert word in result.stdout
    for word in ('12/12', 'loss', 'held_out', 'step/s'):
        assert word in result.stderr

    result = lvsm('render', '--run', tmp_path / 'run', '--data', photos)
    assert result.returncode == 0, result.stderr
    assert '2 views are in' in result.stdout


def test_the_command_imports_official_checkpoints(tmp_path):
    weights = random_weights(dim = 32, dim_head = 16, depth = 2, patch_size = 8)
    torch.save(dict(model = weights), tmp_path / 'official.pt')
    result = lvsm('import-official', tmp_path / 'official.pt', tmp_path / 'ours')
    assert result.returncode == 0, result.stderr
    assert 'non-commercial' in result.stdout
    assert 'depth 2' in result.stdout
    back = to_official(LVSM.from_pretrained(tmp_path / 'ours'))
    assert all(torch.equal(back[name], weights[name]) for name in weights)


@pytest.mark.parametrize('arguments, message', [
    (('import-official', 'nowhere.pt', 'out'), 'lvsm: checkpoint: must be a file'),
    (('train', '--data', 'nowhere'), 'lvsm: data: must be a transforms.json'),
    (('render', '--run', 'nowhere'), 'lvsm: run: must be a folder that `lvsm train` wrote'),
    (('train', '--steps', '0'), 'lvsm: steps: must be at least 1'),
    (('train', '--stepps', '3'), 'stepps'),
    (('paint',), 'paint'),
])
def test_mistakes_get_a_line_and_no_traceback(arguments, message):
    result = lvsm(*arguments)
    assert result.returncode != 0
    assert message in result.stderr + result.stdout
    assert 'Traceback' not in result.stderr
