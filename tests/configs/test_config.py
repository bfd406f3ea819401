"""Options of a run, in YAML and on the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml

from lvsm_pytorch import LVSM
from lvsm_pytorch.cli import main
from lvsm_pytorch.configs.demo import DemoConfig
from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.pose import PoseConfig
from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.configs.yaml import PRESETS, changes, config_from_yaml, config_to_yaml, load_config, presets, save_config
from lvsm_pytorch.training.runs import model_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('config', [
    TrainConfig(),
    TrainConfig(data = Path('photos'), learning_rate = 1e-5, steps = 3, pose_frame = 'inputs', perceptual_loss = 'vgg.mat', warmup_steps = 7, workers = 2, wandb = True),
    TrainConfig(data = ['photos', 's3://bucket/shards']),
    TrainConfig(image_size = (16, 24), random_num_inputs = (2, 4), scale = 'depth', objective = 'mae', num_depth_planes = 0, decoder_kwargs = dict(ff_mult = 2, ff_glu = True), save_best = True),
])
def test_a_config_round_trips(config):
    assert config_from_yaml(config_to_yaml(config)) == config


def test_what_is_left_out_is_the_same_everywhere(told, tmp_path):
    """In a YAML file, in the command and in the class: the preset demo, which names its values."""
    (tmp_path / 'empty.yaml').write_text('{}')
    assert config_from_yaml('steps: 7') == TrainConfig(steps = 7)
    assert config_from_yaml('{}') == load_config('demo') == TrainConfig()
    assert told()[0] == told('--config', tmp_path / 'empty.yaml')[0] == TrainConfig()


def test_changes_of_a_config_are_listed():
    before = TrainConfig(steps = 3)
    assert changes(config_to_yaml(before), before) == []
    assert changes(config_to_yaml(before), replace(before, steps = 4, data = Path('photos'))) == ['data photos instead of None', 'steps 4 instead of 3']


def test_numbers_are_read_as_people_write_them():
    config = config_from_yaml('learning_rate: 4e-4\nmax_grad_norm: 1\nout: run')
    assert (config.learning_rate, config.max_grad_norm, config.out) == (4e-4, 1., Path('run'))


@pytest.mark.parametrize('text, message', [
    ('stepps: 3', 'file: must have known keys alone, but got stepps. Did you mean steps'),
    ('learningrate: 3', 'Did you mean learning_rate'),
    ('xyzzy: 3', 'but got xyzzy. Known are'),
    ('just words', 'file: must be a YAML mapping, but got str'),
    ('a: b: c', 'file: must be YAML, but'),
    ('steps: many', "file, steps: must be int, but got 'many'"),
    ('steps: 3.5', 'file, steps: must be int, but got 3.5'),
    ('bf16: 1', 'file, bf16: must be bool, but got 1'),
    ('workers: two', "file, workers: must be int or nothing, but got 'two'"),
    ('learning_rate: fast', "file, learning_rate: must be float, but got 'fast'"),
    ('pose_frame: world', "file, pose_frame: must be scene or inputs or nothing, but got 'world'"),
    ('data: 3', 'file, data: must be Path or a list of Path or nothing, but got 3'),
    ('data: [a, 3]', 'file, data: must be Path, but got 3'),
    ('data: []', 'data: must be at least one folder or address, but got none'),
    ('steps: 0', 'steps: must be at least 1, but got 0'),
])
def test_what_is_wrong_in_a_file_is_named(text, message):
    with pytest.raises(ValueError, match = message):
        config_from_yaml(text, 'file')


@pytest.mark.parametrize('values, message', [
    (dict(image_size = 60), 'image_size: must be a multiple of patch_size 8, but got 60. For example 56'),
    (dict(batch_size = 8, accumulate = 3), 'batch_size: must be a multiple of 1 processes × 3 parts, but got 8. For example 6'),
    (dict(image_size = (64, 60)), r'image_size: must be a multiple of patch_size 8, but got \(64, 60\). For example 64 56'),
    (dict(image_size = 0), 'image_size: must be a multiple of patch_size 8, but got 0'),
    (dict(dropout_input_ray_prob = 1.), 'dropout_input_ray_prob: must be from 0 up to below 1'),
    (dict(learning_rate = 0.), 'learning_rate: must be above 0'),
    (dict(learning_rate = float('nan')), 'learning_rate: must be above 0, but got nan'),
    (dict(warmup_steps = -1), 'warmup_steps: must be at least 0'),
    (dict(ema_decay = 1.), 'ema_decay: must be from 0 up to below 1'),
    (dict(min_frame_distance = 9, max_frame_distance = 3), 'min_frame_distance, max_frame_distance: must be at least 1, in this order'),
    (dict(pose_frame = 'world'), 'pose_frame: must be scene or inputs'),
    (dict(keep_checkpoints = 0), 'keep_checkpoints: must be at least 1'),
])
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match = message):
        replace(TrainConfig(), **values).check()


def test_a_steps_samples_are_shared_out():
    config = TrainConfig(batch_size = 512, accumulate = 2)
    assert config.samples_at_once(1) == 256
    assert config.samples_at_once(64) == 4
    with pytest.raises(ValueError, match = 'must be a multiple of 3 processes × 2 parts'):
        config.samples_at_once(3)


# presets

def test_presets_are_those_that_are_promised():
    assert presets() == ['demo', 'finetune', 'modern', 'one-gpu', 'paper', 'photos-128', 'solids-128', 'two-gpus']


@pytest.mark.parametrize('name, processes', [('demo', 1), ('solids-128', 1), ('one-gpu', 1), ('two-gpus', 2), ('paper', 64), ('modern', 64)])
def test_a_preset_says_how_it_is_run_and_makes_a_model(name, processes):
    config = load_config(name)
    config.samples_at_once(processes)
    with torch.device('meta'):
        assert model_of(config).config['depth'] == config.depth

    header = [line for line in (ROOT / 'lvsm_pytorch' / 'configs' / 'presets' / f'{name}.yaml').read_text(encoding = 'utf-8').splitlines() if line.startswith('#')]
    for word in (f'--config {name}', 'Needs:', 'Expect:'):
        assert any(word in line for line in header), word


def test_the_papers_preset_is_the_papers_run():
    """Section 4 and appendix of the paper, and the authors' configuration: 24 blocks of width 768, 512 samples a step, AdamW at 4e-4."""
    config = load_config('paper')
    with torch.device('meta'):
        assert model_of(config).config | dict(perceptual_loss_weight = 0.5) == LVSM.from_size('paper-256').config | dict(perceptual_loss_weight = 0.5)

    recipe = (config.num_inputs, config.num_targets, config.steps, config.batch_size, config.optimizer, config.learning_rate, config.weight_decay, config.max_grad_norm, config.skip_grad_norm)
    assert recipe == (2, 6, 100_000, 512, 'adamw', 4e-4, 0.05, 1., 5.)
    assert (config.min_frame_distance, config.max_frame_distance, config.bf16, config.gradient_checkpointing) == (25, 192, True, True)


@pytest.mark.parametrize('name', ['one-gpu', 'two-gpus', 'paper', 'modern'])
def test_presets_for_gpus_name_all_that_differs_from_the_demo(name):
    """So that a change of the demo does not change them."""
    named = yaml.safe_load((PRESETS / f'{name}.yaml').read_text(encoding = 'utf-8'))
    demo = yaml.safe_load((PRESETS / 'demo.yaml').read_text(encoding = 'utf-8'))
    assert set(demo) <= set(named)


def test_the_modern_preset_is_the_papers_run_but_for_network_and_optimizer():
    told, paper = load_config('modern'), load_config('paper')
    differs = {field.name for field in fields(TrainConfig) if getattr(told, field.name) != getattr(paper, field.name)}
    assert differs == {'camera_encoding', 'num_depth_planes', 'near_plane', 'input_attends_target', 'optimizer', 'learning_rate'}
    with torch.device('meta'):
        assert model_of(told).config | dict(perceptual_loss_weight = 0.5) == LVSM.from_size('modern-256').config


def test_a_config_that_is_none_is_named(tmp_path):
    with pytest.raises(ValueError, match = r"config: must be one of \['demo', 'finetune', 'modern', 'one-gpu', 'paper', 'photos-128', 'solids-128', 'two-gpus'\] or a YAML file, but got 'dmeo'"):
        load_config('dmeo')
    (tmp_path / 'mine.yaml').write_text('stepps: 3')
    with pytest.raises(ValueError, match = 'mine.yaml: must have known keys alone, but got stepps. Did you mean steps'):
        load_config(str(tmp_path / 'mine.yaml'))


# the command line

@pytest.fixture
def told(monkeypatch):
    """The config and the options that `lvsm train` hands to the training loop, by its arguments."""
    def told_by(*arguments):
        seen = []
        monkeypatch.setattr('torch.set_flush_denormal', lambda _: None)    # it would hold for all tests after
        monkeypatch.setattr('sys.argv', ['lvsm', 'train', *map(str, arguments)])
        monkeypatch.setattr('lvsm_pytorch.training.loop.train', lambda config, **options: seen.append((config, options)))
        main()
        return seen[0]

    return told_by


def test_the_command_computes_with_no_denormal_numbers(monkeypatch):
    order = []
    monkeypatch.setattr('torch.set_flush_denormal', lambda is_on: order.append(is_on) or True)
    monkeypatch.setattr('lvsm_pytorch.training.loop.train', lambda *_, **__: order.append('train'))
    monkeypatch.setattr('sys.argv', ['lvsm', 'train'])
    main()
    assert order == [True, 'train']    # before threads are made, which have it from the one that makes them


def test_options_of_several_words(told):
    assert told('--image-size', 64)[0].image_size == 64
    config, _ = told('--image-size', 96, 128, '--decoder-kwargs', 'ff_mult', 2, 'ff_glu', 'True', '--random-num-inputs', 2, 4)
    assert (config.image_size, config.size) == ((96, 128), (96, 128))
    assert config.decoder_kwargs == dict(ff_mult = 2, ff_glu = True)
    assert config.random_num_inputs == (2, 4)


def test_options_change_the_config_that_is_named(told, tmp_path):
    (tmp_path / 'mine.yaml').write_text('steps: 7\ndim: 128')
    assert told() == (load_config('demo'), dict(resume = False, overwrite = False, handle_signals = True))
    assert told('--config', 'paper', '--steps', 3, '--overwrite') == (replace(load_config('paper'), steps = 3), dict(resume = False, overwrite = True, handle_signals = True))
    assert told('--config', tmp_path / 'mine.yaml', '--dim', 64)[0] == TrainConfig(steps = 7, dim = 64)


def test_the_command_takes_one_dataset_or_several(told):
    assert told('--data', 'photos')[0].data == Path('photos')
    assert told('--data', 'photos', 's3://bucket/shards', '--steps', 7)[0].data == (Path('photos'), Path('s3://bucket/shards'))


def test_every_field_is_an_option(told):
    words = dict(
        data = 'photos', out = 'run', perceptual_loss = 'vgg.mat', pose_frame = 'inputs', device = 'cpu', camera_encoding = 'plucker', optimizer = 'adamw', muon_learning_rate = '0.25',
        learning_rate = '0.25', weight_decay = '0.25', max_grad_norm = '0.25', skip_grad_norm = '0.25', near_plane = '0.25', perceptual_loss_weight = '0.25', ema_decay = '0.25',
        synthetic = 'worlds', init_from = 'weights', random_num_inputs = '2 6', plane_sweep = 'features', image_loss = 'rmse', ssim_loss_weight = '0.25', depth_loss_weight = '0.25',
        scale = 'depth', objective = 'mae', dropout_input_ray_prob = '0.25', decoder_kwargs = 'ff_mult 2',
    )
    base = load_config('demo')
    arguments = []

    for field in fields(TrainConfig):
        value = getattr(base, field.name)
        option = field.name.replace('_', '-')
        arguments += [f'--{"no-" if value else ""}{option}'] if isinstance(value, bool) else [f'--{option}', *words.get(field.name, '48').split()]

    config, _ = told(*arguments)

    for field in fields(TrainConfig):
        value = getattr(config, field.name)
        assert value != getattr(base, field.name), field.name
        value = sum(value.items(), ()) if isinstance(value, dict) else value
        assert isinstance(value, bool) or ' '.join(map(str, value if isinstance(value, tuple) else [value])) == words.get(field.name, '48')


def test_a_resumed_run_keeps_its_own_config(told, tmp_path):
    config = TrainConfig(out = tmp_path, steps = 3, batch_size = 4)
    save_config(tmp_path, config)
    assert told('--out', tmp_path, '--resume') == (config, dict(resume = True, overwrite = False, handle_signals = True))
    assert told('--out', tmp_path, '--resume', '--steps', 9)[0] == replace(config, steps = 9)
    assert told('--out', tmp_path)[0] == replace(load_config('demo'), out = tmp_path)

    # the same command begins a run and goes on with it

    for out in (tmp_path, tmp_path / 'new'):
        assert told('--out', out, '--resume', '--config', 'paper')[0] == replace(load_config('paper'), out = out)


def test_the_config_of_a_run_is_chosen_however_its_options_are_written(told, tmp_path):
    save_config(tmp_path, config := TrainConfig(out = tmp_path, steps = 3))
    assert told(f'--out={tmp_path}', '--no-tensorboard', '--keep_checkpoints', 2, '--resume')[0] == replace(config, tensorboard = False, keep_checkpoints = 2)
    assert told('--steps', 5, '--config=paper', '--no-resume')[0] == replace(load_config('paper'), steps = 5)


def test_a_config_without_a_name_is_an_error(told):
    with pytest.raises(SystemExit) as stopped:
        told('--config')
    assert stopped.value.code == 2


def options_of(command):
    """Names of the options of a command, and what their help says of positionals."""
    result = subprocess.run([sys.executable, '-m', 'lvsm_pytorch', command, '--help'], capture_output = True, text = True, env = {**os.environ, 'COLUMNS': '200'}, check = True)
    return set(re.findall(r'(?<![\w-])--([a-z][a-z-]*)', result.stdout)), 'positional' in result.stdout


def test_options_mean_the_same_in_every_command():
    """--model, --data and --out, and nothing positional."""
    has = {command: options_of(command) for command in ('demo', 'train', 'evaluate', 'make-index', 'render', 'view', 'inspect', 'pose', 'pack', 'import-official')}
    assert not any(positional for _, positional in has.values())
    with_data, with_model = ({command for command, (options, _) in has.items() if name in options} for name in ('data', 'model'))
    assert with_data >= {'train', 'evaluate', 'make-index', 'render', 'view', 'inspect', 'pose'}
    assert with_model == {'evaluate', 'render', 'view'}
    assert {command for command, (options, _) in has.items() if 'out' not in options} == {'make-index'}    # which writes one file, the --index of evaluate
    assert EvaluateConfig().model == RenderConfig().model == ViewConfig().model


NEGATIVE = {'seed', 'scene'}    # seeds may be negative; numbers of scenes are checked against the data


@pytest.mark.parametrize('kind', [DemoConfig, EvaluateConfig, PoseConfig, RenderConfig, TrainConfig, ViewConfig])
def test_no_number_may_be_negative(kind):
    numbers = [field.name for field in fields(kind) if str(field.type).removesuffix(' | None') in ('int', 'float') and field.name not in NEGATIVE]
    assert numbers
    for name in numbers:
        with pytest.raises(ValueError, match = name):
            kind(**{name: -1}).check()


def test_ports_are_those_of_tcp():
    for port in (-1, 65536):
        with pytest.raises(ValueError, match = 'port: must be from 0'):
            ViewConfig(port = port).check()
