"""A run that is killed, stopped or out of room goes on as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import PAPER

from lvsm_pytorch import files
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.training.checkpoint import Checkpoints, Progress
from lvsm_pytorch.training.logging import METRICS, read_metrics
from lvsm_pytorch.training.loop import train
from lvsm_pytorch.training.runs import CHECKPOINTS
from lvsm_pytorch.training.shutdown import GracefulShutdown, Stopped

CONFIG = TrainConfig(
    **PAPER, image_size = 16, num_targets = 2, dim = 32, depth = 1, dim_head = 16, steps = 120, batch_size = 4, accumulate = 2, learning_rate = 1e-3,
    ema_decay = 0.9, workers = 2, log_every = 2, evaluate_every = 20, save_every = 4, tensorboard = False, device = 'cpu',
)
KILLS = 20

# children come from a server that has imported everything and computed nothing, so that each takes a second and not ten

processes = multiprocessing.get_context('forkserver')
processes.set_forkserver_preload(['lvsm_pytorch.training.loop', 'accelerate', 'torchmetrics.functional.image', 'torch.distributed.checkpoint.state_dict'])


def run_and_die(config, at_step, delay, at_write, moment):
    """Trains, and kills itself once so many steps are recorded: after a delay, or at the so many-th file from then on, when half of it is
    written, before it takes its place or after it has."""
    replace_file, fsync, left = os.replace, os.fsync, None

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def wait():
        nonlocal left
        while not any(f'"step": {step},' in read_text(config.out / METRICS) for step in range(at_step, at_step + 2)):
            time.sleep(0.001)
        left = at_write
        if moment == 'by time':
            time.sleep(delay)
            kill()

    def dying_fsync(descriptor):
        if moment == 'half' and left == 1:
            path = os.readlink(f'/proc/self/fd/{descriptor}')
            os.truncate(path, os.path.getsize(path) // 2)
            kill()
        fsync(descriptor)

    def dying_replace(*paths):
        nonlocal left
        if moment == 'before' and left == 1:
            kill()
        replace_file(*paths)
        if moment == 'after' and left == 1:
            kill()
        left = None if left is None else left - 1

    files.os.replace, files.os.fsync = dying_replace, dying_fsync
    threading.Thread(target = wait, daemon = True).start()
    train(config, resume = True)


def read_text(path):
    return path.read_text() if path.exists() else ''


def outcome(run):
    """All that a run leaves behind that time doesn't change."""
    records = [{name: value for name, value in record.items() if name not in ('seconds', 'views_per_second')} for record in read_metrics(run)]
    progress, state = Checkpoints(run / CHECKPOINTS, keep = 3).last()
    state['config'] = state['config'].replace(str(run), 'run')
    tensors = {name: torch.load(run / CHECKPOINTS / name, weights_only = True)['model'] for name in sorted(path.name for path in (run / CHECKPOINTS).iterdir())}
    return records, progress._replace(seconds = 0, run_id = ''), state, tensors


def assert_same(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same(a[name], b[name])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict = True):
            assert_same(one, other)
    else:
        assert a == b


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason = 'data is read by forked workers')
def test_a_run_that_is_killed_at_twenty_moments_ends_as_one_that_is_not(tmp_path):
    whole = replace(CONFIG, out = tmp_path / 'whole')
    killed = replace(CONFIG, out = tmp_path / 'killed')
    dice = random.Random(0)
    in_saving = set(dice.sample(range(KILLS), 9))

    for number in range(KILLS):
        at_step = 2 * round((number + dice.random()) * (CONFIG.steps // 2 - 2) / KILLS)
        moment = dice.choice(['half', 'before', 'after']) if number in in_saving else 'by time'
        child = processes.Process(target = run_and_die, args = (killed, at_step, dice.uniform(0, 0.05), dice.randint(1, 3), moment))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL

    train(whole)
    train(killed, resume = True)
    assert_same(outcome(whole.out), outcome(killed.out))
    assert not list(killed.out.rglob('*.partial*'))


# stopped by signals

def ask(config, number, after):
    """Trains, and gets a signal once so many steps are recorded."""
    def wait():
        while f'"step": {after},' not in read_text(config.out / METRICS):
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    threading.Thread(target = wait, daemon = True).start()
    train(config, handle_signals = True)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_by_a_signal_saves_a_checkpoint(tmp_path, number):
    config = replace(CONFIG, out = tmp_path / 'run', workers = 0, steps = 10_000, save_every = 10_000, evaluate_every = 10_000)
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match = r'stopped after step \d+ of 10000, which is saved: continue with --resume') as stopped:
        ask(config, number, after = 6)
    assert stopped.value.signal == number
    assert signal.getsignal(number) == before
    progress, _ = Checkpoints(config.out / CHECKPOINTS, keep = 1).last()
    assert 6 <= progress.step < 1000
    assert progress.samples == progress.step * config.batch_size

    ended = replace(config, steps = progress.step + 2)
    train(ended, resume = True)
    assert Checkpoints(config.out / CHECKPOINTS, keep = 1).last()[0].step == progress.step + 2


def test_the_second_wish_is_obeyed_at_once_where_no_other_process_waits():
    with GracefulShutdown(once = True) as shutdown:
        os.kill(os.getpid(), signal.SIGTERM)
        assert shutdown.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with GracefulShutdown(once = False) as shutdown:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert shutdown.received == signal.SIGINT


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path):
    found = []
    thread = threading.Thread(target = lambda: found.append(train(replace(CONFIG, out = tmp_path / 'run', steps = 2, workers = 0), handle_signals = True)))
    thread.start()
    thread.join()
    assert found


# out of room

def fill_up(config, most_bytes):
    """Trains where no file may be longer, which is what a full disk is like."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        train(config, resume = True)
    except OSError as error:
        (config.out / 'said').write_text(str(error))


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_state_whole(tmp_path):
    config = replace(CONFIG, out = tmp_path / 'run', workers = 0, steps = 8, ema_decay = 0.)
    train(config)
    before = outcome(config.out)
    larger = replace(config, steps = 16)
    child = processes.Process(target = fill_up, args = (larger, 20_000))
    child.start()
    child.join()
    said = (config.out / 'said').read_text()
    assert 'must be written completely' in said
    assert 'GB are free' in said
    assert 'The previous file is unchanged' in said
    assert not list(config.out.rglob('*.partial*'))
    assert_same(before[1:], outcome(config.out)[1:])
    train(larger, resume = True)
    assert Checkpoints(config.out / CHECKPOINTS, keep = 1).last()[0].step == 16


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match = 'out: must be a folder that can be made'):
        train(replace(CONFIG, out = tmp_path / 'file' / 'run'))


# checkpoints

def save_some(folder, keep, best_step = 0, steps = (2, 4, 6, 8)):
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(Progress(step = step, best_step = best_step), dict(value = torch.tensor(step)))
    return checkpoints


def test_the_last_states_are_kept_and_the_best(tmp_path):
    assert save_some(tmp_path / 'a', keep = 2).steps() == [6, 8]
    assert save_some(tmp_path / 'b', keep = 2, best_step = 4).steps() == [4, 6, 8]
    assert save_some(tmp_path / 'c', keep = 9).steps() == [2, 4, 6, 8]


def test_a_broken_state_is_passed_over(tmp_path):
    checkpoints = save_some(tmp_path, keep = 4)
    checkpoints.path(8).write_bytes(checkpoints.path(8).read_bytes()[:100])
    with pytest.warns(UserWarning, match = 'a checkpoint can not be read, and the previous one is used'):
        progress, state = checkpoints.last()
    assert progress.step == 6
    assert state['value'] == 6

    for step in (2, 4, 6):
        checkpoints.path(step).write_bytes(b'')
    with pytest.warns(UserWarning, match = 'can not be read'), pytest.raises(ValueError, match = 'resume: must have a checkpoint that can be read, but got none of 4'):
        checkpoints.last()
    assert Checkpoints(tmp_path / 'nowhere', keep = 1).last() is None


def test_a_state_of_a_later_version_is_refused(tmp_path):
    checkpoints = save_some(tmp_path, keep = 4)
    torch.save(dict(format_version = 99, progress = Progress()._asdict()), checkpoints.path(10))
    with pytest.raises(ValueError, match = 'resume: must be a checkpoint of format 1 or before, but got 99'):
        checkpoints.last()


def test_a_state_of_another_network_is_refused(tmp_path):
    config = replace(CONFIG, out = tmp_path / 'run', workers = 0, steps = 2, ema_decay = 0.)
    train(config)
    for change in (dict(dim = 48), dict(depth = 2)):
        (name, value), = change.items()
        told = f'{name} {value} instead of {getattr(config, name)}, steps 4 instead of 2'
        with pytest.raises(ValueError, match = f'resume: must be a checkpoint of the network .*{told}'):
            train(replace(config, steps = 4, **change), resume = True)
