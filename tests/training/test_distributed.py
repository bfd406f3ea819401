"""Several processes are one run: two of them on the CPU, with gloo."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lvsm_pytorch.configs.yaml import load_config
from lvsm_pytorch.data import SyntheticSource, WorldSource, training_views
from lvsm_pytorch.training.checkpoint import Checkpoints
from lvsm_pytorch.training.logging import METRICS, read_metrics
from lvsm_pytorch.training.loop import train
from lvsm_pytorch.training.runs import CHECKPOINTS

TINY = dict(
    image_size = 16, num_targets = 2, dim = 32, depth = 1, dim_head = 16, steps = 12, batch_size = 8, learning_rate = 1e-3, ema_decay = 0.9,
    workers = 1, log_every = 1, evaluate_every = 6, save_every = 6, device = 'cpu',
)


pytestmark = pytest.mark.slow

# what `accelerate launch --use_fsdp` tells its processes

FSDP = dict(ACCELERATE_USE_FSDP = 'true', FSDP_VERSION = '2', FSDP_AUTO_WRAP_POLICY = 'TRANSFORMER_BASED_WRAP', FSDP_TRANSFORMER_CLS_TO_WRAP = 'ViewAttention,FeedForward')


def lvsm_train(processes, out, *flags, program = ('-m', 'lvsm_pytorch'), environment = {}, **changes):
    """Starts it."""
    named = {name.replace('_', '-'): value for name, value in {**TINY, **changes}.items()}
    options = [word for name, value in named.items() for word in ((f'--{"" if value else "no-"}{name}',) if isinstance(value, bool) else (f'--{name}', str(value)))]
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes)] if processes > 1 else []
    command = [sys.executable, '-W', 'ignore', *launcher, *program, 'train', '--out', str(out), '--no-tensorboard', *options, *flags]
    return subprocess.Popen(command, stdout = subprocess.PIPE, stderr = subprocess.STDOUT, text = True, env = {**os.environ, 'OMP_NUM_THREADS': '1', **environment})


def train_here(out, *, resume = False, **changes):
    """The same by this process alone, which need not start."""
    train(replace(load_config('demo'), out = out, tensorboard = False, **{**TINY, **changes}), resume = resume)


def end_of(process):
    """What it prints. It has five minutes, since processes that wait for each other wait for long."""
    try:
        return process.communicate(timeout = 300)[0]
    finally:
        process.terminate()    # a launcher then ends its processes, which a kill would leave behind


def losses(run):
    return torch.tensor([record['loss'] for record in read_metrics(run)])


# the paper's recipe, and the demo's, which differs most from it

RECIPES = [dict(camera_encoding = 'plucker', optimizer = 'adamw', input_attends_target = True), dict(camera_encoding = 'prope', num_depth_planes = 4, optimizer = 'muon', input_attends_target = False)]


@pytest.mark.parametrize('recipe', RECIPES, ids = ['paper', 'modern'])
def test_two_processes_learn_as_one_with_twice_the_batch(tmp_path, recipe):
    runs = {(1, 1): tmp_path / 'one', (2, 1): tmp_path / 'two', (2, 2): tmp_path / 'two-in-parts', (1, 4): tmp_path / 'one-in-parts'}

    for (processes, accumulate), out in runs.items():
        if processes == 1:
            train_here(out, accumulate = accumulate, **recipe)
            continue

        said = end_of(process := lvsm_train(processes, out, accumulate = accumulate, **recipe))
        assert process.returncode == 0, said
        assert said.count('views held out') == 1

    one = losses(runs[1, 1])
    assert len(one) == 12
    assert one.std() > 1e-3

    for out in runs.values():
        assert torch.allclose(losses(out), one, atol = 1e-4, rtol = 0)
        assert read_metrics(out)[-1]['model_psnr'] == pytest.approx(read_metrics(runs[1, 1])[-1]['model_psnr'], abs = 0.02)


def test_two_processes_stop_together_and_one_resumes(tmp_path, capsys):
    whole, stopped, schedule = tmp_path / 'whole', tmp_path / 'stopped', dict(steps = 200, evaluate_every = 200, save_every = 200)
    train_here(whole, **schedule)
    process = lvsm_train(2, stopped, **schedule)
    while not (stopped / METRICS).exists() or len(read_metrics(stopped)) < 10:
        assert process.poll() is None, end_of(process)
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = end_of(process)
    assert process.returncode != 0
    assert 'which is saved: continue with --resume' in said
    progress, state = Checkpoints(stopped / CHECKPOINTS, keep = 1).last()
    assert 10 <= progress.step < 200
    assert len(state['random']) == 2

    train_here(stopped, resume = True, **schedule)
    assert f'resumes after step {progress.step} of 200' in capsys.readouterr().out
    assert torch.allclose(losses(stopped), losses(whole), atol = 1e-4, rtol = 0)


def test_two_processes_render_a_world_once(tmp_path, monkeypatch):
    one, two, log = tmp_path / 'one', tmp_path / 'two', tmp_path / 'rendered'
    (tmp_path / 'temporary').mkdir()
    options = dict(synthetic = 'worlds', steps = 3, image_size = 8)
    process = lvsm_train(2, two, program = [str(Path(__file__).with_name('noted_worlds.py'))], environment = dict(LOG = str(log), TMPDIR = str(tmp_path / 'temporary')), **options)
    said = end_of(process)
    assert process.returncode == 0, said
    rendered = log.read_text().split()
    assert len(rendered) == len(set(rendered)) > 4    # those of validation, and those of training
    assert not list((tmp_path / 'temporary').glob('lvsm-*'))
    monkeypatch.setattr(WorldSource, 'WINDOW', 4)
    train_here(one, **options)
    assert torch.allclose(losses(two), losses(one), atol = 1e-4, rtol = 0)


def lvsm_train_sharded(out, *flags, processes = 2, **changes):
    """By processes that share the weights out."""
    return lvsm_train(processes, out, *flags, program = [str(Path(__file__).with_name('fsdp_on_cpu.py'))], environment = FSDP, **changes)


@pytest.mark.parametrize('recipe, most', list(zip(RECIPES, (1e-6, 1e-5), strict = True)), ids = ['paper', 'modern'])
def test_two_processes_that_share_the_weights_out_learn_as_one(tmp_path, recipe, most):
    """Rays stay in float32: rounded to bfloat16 they change losses by 8e-5."""
    one, sharded = tmp_path / 'one', tmp_path / 'sharded'
    options = dict(bf16 = True, gradient_checkpointing = True, ema_decay = 0., depth = 2, **recipe)
    train_here(one, **options)

    for at_start in ('', 'resumes after step 6 of 12'):
        said = end_of(process := lvsm_train_sharded(sharded, '--resume', accumulate = 2, **options))
        assert process.returncode == 0, said
        assert at_start in said
        assert (losses(sharded) - losses(one)).abs().max() < most
        Checkpoints(sharded / CHECKPOINTS, keep = 1).remove(12)


def test_a_checkpoint_of_two_shards_is_resumed_by_one_process_and_by_three(tmp_path, capsys):
    options = dict(ema_decay = 0., depth = 2, batch_size = 6, steps = 6, evaluate_every = 6, save_every = 3, **RECIPES[1])
    one, two, runs = tmp_path / 'one', tmp_path / 'two', [tmp_path / 'alone', tmp_path / 'three']
    train_here(one, **options)
    said = end_of(process := lvsm_train_sharded(two, **options))
    assert process.returncode == 0, said

    # no file has a whole matrix of the network

    checkpoints = Checkpoints(two / CHECKPOINTS, keep = 2)
    assert not checkpoints.path(3).exists()
    shards = [load_file(path) for path in sorted(checkpoints.sharded(3).glob('*.safetensors'))]
    weights = load_file(two / 'model.safetensors')
    name = next(name for name in weights if name.endswith('to_q.weight'))
    parts = [shard[f'model.{name}'] for shard in shards]
    assert len(parts) == 2
    assert sum(part.numel() for part in parts) == weights[name].numel()
    assert all(0 < part.numel() < weights[name].numel() for part in parts)

    checkpoints.remove(6)
    for run in runs:
        shutil.copytree(two, run)
    train_here(runs[0], resume = True, **options)
    assert 'resumes after step 3 of 6' in capsys.readouterr().out
    said = end_of(process := lvsm_train_sharded(runs[1], '--resume', processes = 3, **options))
    assert process.returncode == 0, said
    assert 'resumes after step 3 of 6' in said
    for run in (two, *runs):
        assert (losses(run) - losses(one)).abs().max() < 1e-5
    again = load_file(runs[0] / 'model.safetensors')
    assert max((again[name] - weight).abs().max() for name, weight in weights.items()) < 1e-4


def test_no_average_of_weights_that_are_shared_out(tmp_path):
    said = end_of(lvsm_train_sharded(tmp_path / 'run', ema_decay = 0.9))
    assert 'ema_decay: must be off where weights are shared out by FSDP, but got 0.9' in said


def test_a_batch_that_can_not_be_shared_is_named(tmp_path):
    said = end_of(lvsm_train(2, tmp_path / 'run', batch_size = 3))
    assert 'batch_size: must be a multiple of 2 processes × 1 parts, but got 3. For example 2.' in said


@pytest.mark.parametrize('workers', [0, 2])
def test_rank_r_takes_every_rth_sample(workers):
    """Of one order, from whatever sample on."""
    source = SyntheticSource(num_inputs = 1, num_targets = 1, image_size = 8)
    expected = [source.sample(number) for number in range(6, 30)]

    for processes in (1, 2, 3):
        views = [list(training_views(source, range(6, 30), batch_size = 4, rank = rank, processes = processes, workers = workers)) for rank in range(processes)]
        for rank, batches in enumerate(views):
            mine = source.collate(expected[rank::processes])
            assert [len(batch.names) for batch in batches] == [4] * (6 // processes)
            assert [name for batch in batches for name in batch.names] == mine.names
            torch.testing.assert_close(torch.cat([batch.images for batch in batches]), mine.images)
            assert torch.allclose(torch.cat([batch.cameras.camera_to_world for batch in batches]), mine.cameras.camera_to_world, atol = 1e-6)
