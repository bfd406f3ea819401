"""Checkpoints of sharded networks: written by so many processes, read by others."""

from __future__ import annotations

import shutil
import sys
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, nn
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lvsm_pytorch.files import PARTIAL, read_tensors, remove_partial_files
from lvsm_pytorch.training.checkpoint import Checkpoints, Progress
from lvsm_pytorch.training.muon import Muon
from lvsm_pytorch.training.sharded import RUN, load_shards, save_shards

ALONE = SimpleNamespace(is_main_process = True, wait_for_everyone = lambda: None)


def begin(width = 6, processes = 0):
    """A network and its optimizer, which `processes` share out by FSDP."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.Linear(width, 2, bias = False))

    if processes:
        mesh = init_device_mesh('cpu', (processes,))
        fully_shard(network[0], mesh = mesh)
        fully_shard(network, mesh = mesh)

    return network, Muon([network[2].weight], [dict(params = [*network[0].parameters(), *network[1].parameters()])], lr = 1e-2, betas = (0.8, 0.9))


def take_step(network, optimizer):
    network(torch.linspace(-1, 1, 12).view(3, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def save(checkpoints, step, **run):
    network, optimizer = begin()
    take_step(network, optimizer)
    checkpoints.folder.mkdir(exist_ok = True)
    progress = Progress(step = step)
    save_shards(checkpoints.sharded(step), network, optimizer, dict(format_version = 1, progress = progress._asdict(), **run), ALONE)
    return network, optimizer


def test_network_and_optimizer_continue_as_they_were(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep = 3)
    network, optimizer = save(checkpoints, 4, other = torch.arange(3))
    progress, state = checkpoints.last()
    assert progress.step == 4
    assert state['other'].tolist() == [0, 1, 2]

    again, its_optimizer = begin()
    for group in its_optimizer.param_groups:
        group['lr'] = 9.
    load_shards(state['folder'], state['param_groups'], again, its_optimizer)
    for _ in range(2):
        take_step(network, optimizer)
        take_step(again, its_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict = True))
    assert not list(checkpoints.folder.glob('.*'))


def test_another_network_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep = 3)
    save(checkpoints, 4)
    with pytest.raises(RuntimeError):
        load_shards(checkpoints.sharded(4), checkpoints.last()[1]['param_groups'], *begin(width = 8))


def test_a_checkpoint_without_one_of_its_files_is_passed_over(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep = 3)
    save(checkpoints, 2)
    save(checkpoints, 4)
    next(checkpoints.sharded(4).glob('*.safetensors')).unlink()
    with pytest.warns(UserWarning, match = r'must have all 1 files of a checkpoint in .*step-00000004, but got .* missing'):
        assert checkpoints.last()[0].step == 2
    (checkpoints.sharded(2) / RUN).unlink()
    with pytest.warns(UserWarning, match = 'can not be read'), pytest.raises(ValueError, match = 'none of 2'):
        checkpoints.last()


def test_both_kinds_are_counted_and_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep = 2)
    save(checkpoints, 2)
    save(checkpoints, 4)
    checkpoints.save(Progress(step = 6), dict(value = torch.ones(1)))
    assert checkpoints.steps() == [4, 6]
    checkpoints.save(Progress(step = 4), dict(value = torch.ones(1)))    # of one process, in place of the sharded one
    assert not checkpoints.sharded(4).exists()
    assert read_tensors(checkpoints.path(4), argument = 'resume')['value'] == 1


def test_what_a_killed_process_leaves_is_no_checkpoint_and_is_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep = 2)
    save(checkpoints, 2)
    shutil.copytree(checkpoints.sharded(2), tmp_path / f'.step-00000004{PARTIAL}')
    assert checkpoints.steps() == [2]
    remove_partial_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['step-00000002']


def test_what_can_not_be_written_is_an_error_that_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep = 3)
    save(checkpoints, 2)
    write_files = FileSystemWriter._write_data

    def full(self, *arguments):
        write_files(self, *arguments)
        raise OSError('no space left on device')

    monkeypatch.setattr(FileSystemWriter, '_write_data', full)
    with pytest.raises(OSError, match = r'step-00000004: must be written completely, but got (.|\n)*no space left'):
        save(checkpoints, 4)
    assert checkpoints.steps() == [2]
    assert checkpoints.last()[0].step == 2


# several processes

def whole_weights(network):
    return [p.full_tensor().detach() if isinstance(p, DTensor) else p.detach() for p in network.parameters()]


def train_together(rank, processes, checkpoints, resume, out):
    """Two steps and a checkpoint, or the last checkpoint; then two steps more."""
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', init_method = f'file://{out}.rendezvous', rank = rank, world_size = processes)
    network, optimizer = begin(processes = processes)

    if resume:
        _, state = checkpoints.last()
        load_shards(state['folder'], state['param_groups'], network, optimizer)
    else:
        for _ in range(2):
            take_step(network, optimizer)

        together = SimpleNamespace(is_main_process = rank == 0, wait_for_everyone = distributed.barrier)
        save_shards(checkpoints.sharded(2), network, optimizer, dict(format_version = 1, progress = Progress(step = 2)._asdict()), together)

    for _ in range(2):
        take_step(network, optimizer)

    weights = whole_weights(network)

    if rank == 0:
        torch.save(weights, out)

    distributed.destroy_process_group()


def run_processes(count, checkpoints, out, *, resume):
    processes = [get_context('spawn').Process(target = train_together, args = (rank, count, checkpoints, resume, out)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    return torch.load(out)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason = 'gloo is tested on Linux alone')
def test_any_number_of_processes_continues_what_two_have_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep = 3)
    network, optimizer = begin()
    for _ in range(4):
        take_step(network, optimizer)
    expected = whole_weights(network)
    torch.testing.assert_close(run_processes(2, checkpoints, tmp_path / 'two', resume = False), expected)

    # each has written a part

    shards = [load_file(path)['model.0.weight'] for path in sorted(checkpoints.sharded(2).glob('*.safetensors'))]
    assert [tuple(shard.shape) for shard in shards] == [(3, 4), (3, 4)]

    # three, of which one has nothing of the last matrix, and one that is not sharded

    torch.testing.assert_close(run_processes(3, checkpoints, tmp_path / 'three', resume = True), expected)
    alone, its_optimizer = begin()
    _, state = checkpoints.last()
    load_shards(state['folder'], state['param_groups'], alone, its_optimizer)
    for _ in range(2):
        take_step(alone, its_optimizer)
    torch.testing.assert_close(whole_weights(alone), expected)
