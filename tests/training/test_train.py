from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import PAPER
from PIL import Image
from plain_lvsm import random_weights
from safetensors.torch import load_file

from lvsm_pytorch import LVSM
from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import load_config
from lvsm_pytorch.data import SyntheticSource, cameras_of, synthetic_scene, write_lvsm, write_transforms
from lvsm_pytorch.evaluation.metrics import render_batch, score
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.inference.render import render
from lvsm_pytorch.lvsm.losses import TORCHVISION_LAYERS, PerceptualLoss
from lvsm_pytorch.lvsm.official import to_official
from lvsm_pytorch.training.checkpoint import Checkpoints
from lvsm_pytorch.training.logging import read_metrics
from lvsm_pytorch.training.loop import train
from lvsm_pytorch.training.optim import is_step_accepted, learning_rate, optimizer_of
from lvsm_pytorch.training.runs import BEST, CHECKPOINTS, load_run, model_of, source_of, workers_of

TINY = dict(
    **PAPER, image_size = 16, num_targets = 1, dim = 32, depth = 1, dim_head = 16, steps = 12, batch_size = 2, learning_rate = 1e-3,
    evaluate_every = 6, save_every = 6, tensorboard = False, device = 'cpu',
)


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
    assert sorted(p.name for p in trained.iterdir()) == ['best', 'checkpoints', 'comparison.png', 'config.json', 'config.yaml', 'metrics.jsonl', 'model.safetensors']
    assert sorted(p.name for p in (trained / CHECKPOINTS).iterdir()) == ['step-00000006.pt', 'step-00000012.pt']
    _, state = Checkpoints(trained / CHECKPOINTS, 1).last()
    assert {'model', 'optimizer', 'random', 'config'} <= set(state)
    assert state['config'] == (trained / 'config.yaml').read_text()

    records = read_metrics(trained)
    assert [record['step'] for record in records] == [6, 10, 12]
    assert {'loss', 'psnr', 'learning_rate', 'gradient_norm', 'skipped', 'views_per_second', 'seconds'} <= set(records[1])
    assert records[1]['psnr'] == pytest.approx(-10 * math.log10(records[1]['loss']))
    assert {'model_psnr', 'model_ssim', 'copy_psnr', 'blur_psnr'} <= set(records[-1])

    config, model = load_run(trained)
    assert config == TrainConfig(data = photos, out = trained, pose_frame = 'scene', **TINY)
    assert not model.training
    assert model.trained_for[:4] == ('scene', (16, 16), 2, None)
    assert size_of(trained / 'comparison.png')[0] > 400


def test_the_best_model_is_kept(photos, tmp_path):
    """Of a run that gets worse, the one before."""
    config = TrainConfig(data = photos, out = tmp_path / 'run', **TINY)
    train(config)
    best = load_file(config.out / BEST / 'model.safetensors')
    train(replace(config, steps = 24, learning_rate = 3., keep_checkpoints = 1), resume = True)
    psnrs = {record['step']: record['model_psnr'] for record in read_metrics(config.out) if 'model_psnr' in record}
    assert psnrs[12] == max(psnrs.values())
    assert all(torch.equal(tensor, load_file(config.out / BEST / 'model.safetensors')[name]) for name, tensor in best.items())
    assert not torch.allclose(best['to_pixels.weight'], load_file(config.out / 'model.safetensors')['to_pixels.weight'])
    assert Checkpoints(config.out / CHECKPOINTS, 1).steps() == [12, 24]
    assert load_run(config.out / BEST)[0].steps == 12


def test_held_out_views_are_rendered(trained, photos, tmp_path, capsys):
    files = render(RenderConfig(model = trained, data = photos, path = 'held-out', out = tmp_path / 'views', device = 'cpu'))
    assert sorted(p.name for p in (tmp_path / 'views').iterdir()) == sorted((*(file.name for file in files), 'settings.json')) == ['comparison.png', 'images_0000.png', 'images_0008.png', 'settings.json']
    assert size_of(tmp_path / 'views' / 'images_0008.png') == (16, 16)
    assert f'{read_metrics(trained)[-1]["model_psnr"]:.2f} dB' in capsys.readouterr().out

    render(RenderConfig(model = trained, path = 'held-out', device = 'cpu'))
    assert (trained / 'render' / 'comparison.png').is_file()


def test_training_is_learning(photos, tmp_path):
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'steps': 150, 'dim': 64, 'batch_size': 8, 'evaluate_every': 1000})
    untrained = score(render_batch(model_of(config), source_of(config).held_out()), source_of(config).held_out().target_images)
    assert train(config)['model_psnr'] > untrained.psnr.mean() + 3


def test_the_same_seed_gives_the_same_run(photos, tmp_path):
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        train(TrainConfig(data = photos, out = tmp_path / name, seed = seed, **TINY))
    a, b, c = (load_file(tmp_path / name / 'model.safetensors') for name in 'abc')
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.allclose(a['to_pixels.weight'], c['to_pixels.weight'])


def test_a_run_is_not_written_over(trained, photos):
    config = TrainConfig(data = photos, out = trained, **TINY)
    with pytest.raises(ValueError, match = 'out: must be a new folder.*--resume.*--overwrite'):
        train(config)


def test_a_run_that_is_thrown_away_leaves_nothing_behind(photos, tmp_path):
    config = TrainConfig(data = photos, out = tmp_path / 'run', **TINY)
    train(config)
    train(replace(config, steps = 4), overwrite = True)
    assert Checkpoints(config.out / CHECKPOINTS, 1).steps() == [4]
    assert [record['step'] for record in read_metrics(config.out)] == [4]


def test_a_run_that_is_done_is_validated_again(trained, photos, tmp_path):
    before = read_metrics(trained)
    figures = train(TrainConfig(data = photos, out = trained, **TINY), resume = True)
    assert figures['model_psnr'] == pytest.approx(before[-1]['model_psnr'], abs = 1e-6)
    assert read_metrics(trained) == before


def test_steps_of_huge_gradients_are_skipped_counted_and_shown(photos, tmp_path, capfd):
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'skip_grad_norm': 1e-9})
    train(config)
    assert [record['skipped'] for record in read_metrics(config.out)] == [6, 10, 12]
    assert '12 skipped' in capfd.readouterr().err
    untrained = model_of(replace(config, pose_frame = 'scene'))
    assert torch.equal(load_file(config.out / 'model.safetensors')['to_pixels.weight'], untrained.to_pixels.weight)

    assert [is_step_accepted(norm, TrainConfig()) for norm in (0.1, 5., 5.1, math.nan, math.inf)] == [True, True, False, False, False]


def test_a_run_that_learns_nothing_any_more_stops(photos, tmp_path):
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'steps': 300, 'learning_rate': 1e30, 'save_every': 1})
    with pytest.raises(ValueError, match = 'gradient: must have a norm up to skip_grad_norm 5.0, but got nan .*Lower --learning-rate'):
        train(config)


def test_gradients_are_scaled_down(photos, tmp_path):
    """To a norm so small that Adam, which depends on their direction alone but for its epsilon, hardly moves."""
    for name, norm in (('as-it-is', 1.), ('scaled', 1e-12)):
        train(TrainConfig(data = photos, out = tmp_path / name, **{**TINY, 'max_grad_norm': norm, 'weight_decay': 0.}))
    untrained = model_of(TrainConfig(data = photos, pose_frame = 'scene', **TINY)).to_pixels.weight
    moved = {name: (load_file(tmp_path / name / 'model.safetensors')['to_pixels.weight'] - untrained).abs().max() for name in ('as-it-is', 'scaled')}
    assert moved['scaled'] < 0.01 * moved['as-it-is']


def test_the_learning_rate_rises_and_falls():
    config = TrainConfig(steps = 100, warmup_steps = 10, learning_rate = 1.)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == max(rates) == 1.
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 1e-3
    assert sorted(rates[10:], reverse = True) == rates[10:]


@pytest.mark.parametrize('steps, warmup', [(100_000, 2500), (50_000, 2500), (1000, 50), (20, 1)])
def test_warming_up_takes_2500_steps_or_a_twentieth_of_the_run(steps, warmup):
    config = TrainConfig(steps = steps, learning_rate = 1.)
    assert learning_rate(warmup - 1, config) == 1. == learning_rate(warmup, config)
    assert warmup == 1 or learning_rate(warmup - 2, config) < 1


def test_the_papers_preset_trains_as_the_paper():
    config = load_config('paper')
    optimizer = optimizer_of(model_of(TrainConfig(**TINY)), config)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults['betas'] == (0.9, 0.95)
    assert (config.learning_rate, config.weight_decay, config.max_grad_norm, config.skip_grad_norm, config.num_targets) == (4e-4, 0.05, 1., 5., 6)
    assert LVSM.from_size('paper-256').config | dict(perceptual_loss_weight = 0.5) == model_on_meta(config).config


def model_on_meta(config):
    with torch.device('meta'):
        return model_of(config)


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
    assert model.transformer.gradient_checkpointing
    assert model_of(TrainConfig(**TINY)).input_attends_target
    assert source_of(TrainConfig(**TINY)).frame == 'inputs'
    assert model_of(TrainConfig(pose_frame = 'inputs', **TINY)).trained_for == ('inputs', (16, 16), 2, None, 'cameras', None)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_on_many_scenes(tmp_path, capsys, workers):
    write_lvsm([synthetic_scene(seed, num_views = 5, image_size = 16) for seed in range(4)], tmp_path / 'data')
    image = sorted((tmp_path / 'data' / 'images' / 'synthetic-2').iterdir())[1]
    image.write_bytes(b'broken')
    with pytest.warns(UserWarning, match = 'skipped synthetic-2/000001'):
        figures = train(TrainConfig(data = tmp_path / 'data', out = tmp_path / 'run', min_frame_distance = 2, max_frame_distance = 4, **{**TINY, 'num_targets': 2, 'workers': workers}))
    assert figures['model_psnr'] > 5
    printed = capsys.readouterr().out
    assert "LVSM authors' JSON: 3 scenes to train with, 1 held out" in printed
    assert '1 skipped:\n  synthetic-2/000001 00001.png' in printed
    assert load_run(tmp_path / 'run')[0].pose_frame == 'inputs'


@pytest.mark.filterwarnings('ignore:skipped')
@pytest.mark.parametrize('workers', [0, 2])
def test_a_dataset_that_can_not_be_used_is_an_error_of_one_line(tmp_path, workers):
    write_lvsm([synthetic_scene(seed, num_views = 5, image_size = 16) for seed in range(4)], tmp_path / 'data')
    for seed in (1, 2, 3):
        for path in (tmp_path / 'data' / 'images' / f'synthetic-{seed}').iterdir():
            path.write_bytes(b'broken')
    config = TrainConfig(data = tmp_path / 'data', out = tmp_path / 'run', min_frame_distance = 2, **{**TINY, 'workers': workers})
    with pytest.raises(ValueError, match = 'data: must have at least one scene that can be used, but got none of 3') as raised:
        train(config)
    assert 'Traceback' not in str(raised.value)
    assert not multiprocessing.active_children()


# flags

@pytest.mark.parametrize('flags', [
    dict(accumulate = 2),
    dict(gradient_checkpointing = True),
    dict(workers = 2),
    dict(tensorboard = True),
    dict(log_every = 3),
    dict(save_every = 1, keep_checkpoints = 1),
])
def test_flags_that_change_how_but_not_what(photos, trained, tmp_path, flags):
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, **flags})
    train(config)
    reference, weights = (load_file(run / 'model.safetensors') for run in (trained, config.out))
    for name, weight in weights.items():
        assert torch.allclose(weight, reference[name], atol = 2e-5), name


@pytest.mark.parametrize('flags', [dict(bf16 = True), pytest.param(dict(compile = True), marks = pytest.mark.slow)], ids = str)
def test_flags_that_change_the_last_digits(photos, trained, tmp_path, flags):
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, **flags})
    train(config)
    reference, records = read_metrics(trained), read_metrics(config.out)
    for ours, theirs in zip(records, reference, strict = True):
        assert ours['loss'] == pytest.approx(theirs['loss'], rel = 0.02)
    assert all(weight.dtype == torch.float32 for weight in load_file(config.out / 'model.safetensors').values())
    if 'bf16' in flags:
        assert [record['loss'] for record in records] != [record['loss'] for record in reference]


def test_the_average_is_validated_and_saved(photos, tmp_path):
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'ema_decay': 0.99, 'steps': 30})
    train(config)
    _, state = Checkpoints(config.out / CHECKPOINTS, 1).last()
    weights = load_file(config.out / 'model.safetensors')
    for name, weight in weights.items():
        assert torch.equal(weight, state['average'][f'module.{name}'])
    assert not torch.allclose(weights['to_pixels.weight'], state['model']['to_pixels.weight'])
    assert score_of(config) == pytest.approx(read_metrics(config.out)[-1]['model_psnr'], abs = 1e-4)


def score_of(config):
    held_out = source_of(config).held_out()
    return score(render_batch(load_run(config.out)[1], held_out), held_out.target_images).psnr.mean().item()


def test_the_perceptual_loss_comes_from_a_file(photos, tmp_path):
    state = {f'features.{TORCHVISION_LAYERS[name]}.{part}': tensor for name, layer in PerceptualLoss.with_random_weights().layers.items() for part, tensor in layer.state_dict().items()}
    torch.save(state, tmp_path / 'vgg19.pth')
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'perceptual_loss': str(tmp_path / 'vgg19.pth'), 'perceptual_loss_weight': 2., 'steps': 2, 'ema_decay': 0.9})
    train(config)
    record = read_metrics(config.out)[-1]
    assert record['loss'] > 10 ** (-record['psnr'] / 10) * 1.5
    with pytest.raises(ValueError, match = 'path: must be a file of VGG-19 weights'):
        model_of(replace(config, perceptual_loss = 'nowhere.mat'))


def test_tensorboard_gets_curves_and_pictures_of_a_resumed_run(photos, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'tensorboard': True})
    train(config)
    train(replace(config, steps = 18), resume = True)
    assert f'{config.out}: resumes after step 12 of 18; steps 18 instead of 12\n' in capsys.readouterr().out
    events = EventAccumulator(str(config.out / 'tensorboard'))
    events.Reload()
    assert {'loss', 'psnr', 'model_psnr', 'blur_psnr'} <= set(events.Tags()['scalars'])
    assert [event.step for event in events.Scalars('loss')] == [6, 10, 12, 18]
    assert [event.step for event in events.Images('held_out')] == [6, 12, 18]


def test_wandb_gets_curves_pictures_and_the_config(photos, tmp_path, monkeypatch):
    """Of one run, where it goes on too. By a stand-in: the real one wants an account."""
    told = []

    class Tracker:
        name = 'wandb'

        def __init__(self, project, **options):
            told.append((project, options))

        def __getattr__(self, method):
            return lambda *args, **options: told.append((method, args, options))

    monkeypatch.setattr('accelerate.tracking.WandBTracker', Tracker)
    monkeypatch.setattr('lvsm_pytorch.training.logging.find_spec', lambda name: name)
    config = TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'wandb': True})
    train(config)
    train(replace(config, steps = 18), resume = True)

    begun = [options for project, *_, options in told if project == 'lvsm']
    assert [options['config']['steps'] for options in begun] == [12, 18]
    assert begun[0]['id'] == begun[1]['id']
    assert {options['name'] for options in begun} == {'run'}
    assert {options['resume'] for options in begun} == {'allow'}
    logged = [(options['step'], args[0]) for method, *args, options in told if method == 'log' for args in args]
    assert [step for step, _ in logged] == [6, 10, 12, 18]
    assert logged[-1][1]['model_psnr'] == read_metrics(config.out)[-1]['model_psnr']
    assert [options['step'] for method, *_, options in told if method == 'log_images'] == [6, 12, 18]
    assert sum(method == 'finish' for method, *_ in told) == 2


def test_trackers_that_are_not_installed_are_named(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(ImportError, match = 'wandb is not installed: pip install wandb, or leave it out by --no-wandb'):
        train(TrainConfig(data = photos, out = tmp_path / 'run', **{**TINY, 'wandb': True}))
    assert not (tmp_path / 'run').exists()


def test_workers_are_for_gpus():
    assert workers_of(TrainConfig(), torch.device('cpu')) == 0
    assert workers_of(TrainConfig(workers = 3), torch.device('cpu')) == 3
    if sys.platform == 'linux':
        assert workers_of(TrainConfig(), torch.device('cuda')) == 4


# one scene

@pytest.mark.slow
def test_an_overfitted_scene_tells_a_broken_pipeline_from_a_slow_one(tmp_path, capsys):
    scenes = [synthetic_scene(seed, num_views = 24, image_size = 16) for seed in range(2)]
    write_lvsm(scenes, tmp_path / 'data')
    options = {**TINY, 'dim': 64, 'depth': 2, 'batch_size': 8, 'steps': 500, 'learning_rate': 3e-3, 'evaluate_every': 500}
    config = TrainConfig(data = tmp_path / 'data', out = tmp_path / 'run', overfit_one_scene = True, **options)
    figures = train(config)
    printed = capsys.readouterr().out
    assert 'the pipeline works' in printed
    assert 'views it trained on' in printed
    assert figures['trained_psnr'] > figures['trained_blur_psnr'] + 3

    train(replace(config, steps = 2), overwrite = True)
    assert 'something is broken, or the run too short' in capsys.readouterr().out

    # with cameras that are another view's

    poses = [view.camera_to_world for view in scenes[0].views]
    shuffled = [poses[index] for index in torch.randperm(24, generator = torch.Generator().manual_seed(1)).tolist()]
    wrong = replace(scenes[0], views = tuple(replace(view, camera_to_world = pose) for view, pose in zip(scenes[0].views, shuffled, strict = True)))
    write_transforms(wrong, tmp_path / 'wrong')
    train(replace(config, data = tmp_path / 'wrong'), overwrite = True)
    assert 'check the cameras with lvsm inspect' in capsys.readouterr().out


def test_one_scene_of_many_is_the_first():
    for config in (TrainConfig(overfit_one_scene = True, **TINY), TrainConfig(overfit_one_scene = True, **{**TINY, 'seed': 3})):
        assert len(source_of(config).names) == 32


def test_a_folder_that_is_no_run_is_named(tmp_path, trained):
    with pytest.raises(ValueError, match = 'run: must be a folder that `lvsm train` wrote'):
        load_run(tmp_path)
    (tmp_path / 'config.yaml').write_text((trained / 'config.yaml').read_text())
    with pytest.raises(ValueError, match = 'must have config.json and model.safetensors'):
        load_run(tmp_path)


def test_a_device_that_is_not_here_is_named(tmp_path):
    with pytest.raises(ValueError, match = 'device: must be an available device, but got nonsense'):
        train(TrainConfig(out = tmp_path / 'run', **{**TINY, 'device': 'nonsense'}))
    with pytest.raises(ValueError, match = 'device: must be an available device, but got nonsense'):
        pick_device('nonsense')
    assert pick_device('cpu').type == 'cpu'


def test_float16_is_refused(tmp_path, monkeypatch):
    """Which accelerate may be set to, on GPUs."""
    accelerate = pytest.importorskip('accelerate')
    monkeypatch.setattr(accelerate.Accelerator, 'mixed_precision', 'fp16')
    with pytest.raises(ValueError, match = 'mixed_precision: must be no or bf16'):
        train(TrainConfig(out = tmp_path / 'run', **TINY))


def test_a_step_reads_values_of_the_device_once(tmp_path, monkeypatch):
    read = []

    def noted(name):
        method = getattr(torch.Tensor, name)

        def inner(self, *args):
            if sys._getframe(1).f_globals['__name__'] in ('lvsm_pytorch.training.loop', 'lvsm_pytorch.training.optim'):
                read.append(name)
            return method(self, *args)

        return inner

    for name in ('item', 'tolist', '__float__', '__bool__', '__int__'):
        monkeypatch.setattr(torch.Tensor, name, noted(name))

    train(TrainConfig(out = tmp_path / 'run', **{**TINY, 'steps': 3}))
    assert read == ['tolist'] * 3


# the command

def lvsm(*arguments):
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', 'from lvsm_pytorch.cli import main; main()', *map(str, arguments)], capture_output = True, text = True, env = {**os.environ, 'COLUMNS': '200', 'LINES': '50'})


@pytest.mark.slow
def test_the_command_trains_and_renders(photos, tmp_path):
    options = [word for name, value in TINY.items() if name not in ('tensorboard', *PAPER) for word in (f'--{name.replace("_", "-")}', value)]
    result = lvsm('train', '--data', photos, '--out', tmp_path / 'run', '--no-tensorboard', *options)
    assert result.returncode == 0, result.stderr
    for word in ('held out', 'model', 'blurred mean', 'copied', 'comparison.png'):
        assert word in result.stdout
    for word in ('12/12 [', 'loss', 'psnr', 'views/s', 'held out', 'step/s'):
        assert word in result.stderr

    result = lvsm('render', '--path', 'held-out', '--model', tmp_path / 'run', '--data', photos)
    assert result.returncode == 0, result.stderr
    assert '2 views are in' in result.stdout


@pytest.mark.slow
def test_the_command_imports_official_checkpoints(tmp_path):
    weights = random_weights(dim = 32, dim_head = 16, depth = 2, patch_size = 8)
    torch.save(dict(model = weights), tmp_path / 'official.pt')
    result = lvsm('import-official', '--checkpoint', tmp_path / 'official.pt', '--out', tmp_path / 'ours')
    assert result.returncode == 0, result.stderr
    assert 'non-commercial' in result.stdout
    assert 'depth 2' in result.stdout
    back = to_official(LVSM.from_pretrained(tmp_path / 'ours'))
    assert all(torch.equal(back[name], weights[name]) for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize('arguments, message', [
    (('import-official', '--checkpoint', 'nowhere.pt', '--out', 'out'), 'lvsm: checkpoint: must be a file'),
    (('train', '--data', 'nowhere'), 'lvsm: data: must be a transforms.json'),
    (('render', '--model', 'nowhere', '--path', 'held-out'), 'lvsm: run: must be a folder that `lvsm train` wrote'),
    (('train', '--steps', '0'), 'lvsm: steps: must be at least 1'),
    (('train', '--stepps', '3'), 'stepps'),
    (('inspect', 'photos'), 'photos'),
    (('make-index', '--data', 'photos'), '--index'),
    (('render', '--model', 'nowhere'), 'lvsm: folder_or_hub_id: must be an existing folder'),
])
def test_mistakes_get_a_line_and_no_traceback(arguments, message):
    result = lvsm(*arguments)
    assert result.returncode != 0
    assert message in result.stderr + result.stdout
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize('overfit', [False, True])
def test_a_model_knows_the_unit_that_it_was_trained_with(overfit):
    """By it rays of a sample are those that `synthesize` makes of the dataset's cameras."""
    config = TrainConfig(pose_frame = 'inputs', overfit_one_scene = overfit, **TINY)
    source = source_of(config)
    known = model_of(config, source).trained_for
    assert known is not None
    assert known.world is None
    sample = source.training_batch(0, 1)

    if overfit:
        scene = synthetic_scene(SyntheticSource.FIRST_TRAINING_SEED, num_views = 32, image_size = 16)
        assert known.unit != SyntheticSource.UNIT
    else:
        scene = synthetic_scene(int(sample.names[0].removeprefix('scene ')), num_views = source.num_views, image_size = 16)

    poses = cameras_of(scene.views).camera_to_world
    images = torch.stack([view.load() for view in scene.views])
    inputs = [int((images - image).flatten(1).abs().sum(dim = 1).argmin()) for image in sample.input_images[0]]
    moved = normalize_poses(poses[inputs], unit = known.unit).inputs
    assert (moved - sample.cameras.camera_to_world[0, :2]).abs().max() < 1e-4


def test_going_on_and_throwing_away_are_not_for_one_run(tmp_path):
    with pytest.raises(ValueError, match = 'resume: must be left out with --overwrite'):
        train(TrainConfig(out = tmp_path / 'run', **TINY), resume = True, overwrite = True)
    assert not (tmp_path / 'run').exists()
