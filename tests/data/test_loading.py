"""Workers: forked or spawned, samples are the same; what takes long is computed once for all of them."""

from __future__ import annotations

import pickle
import shutil
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from lvsm_pytorch.data import DatasetSource, Problems, SyntheticSource, WorldSource, shared_results, split_dataset, synthetic_scene, training_views, write_chunks
from lvsm_pytorch.data.recent import Recent
from lvsm_pytorch.data.shared_results import SharedResults

ON_LINUX = pytest.mark.skipif(sys.platform != 'linux', reason = 'workers are forked on Linux alone')


def chunks_source(folder, problems = None):
    write_chunks([synthetic_scene(seed, num_views = 6, image_size = 16) for seed in range(12)], folder, scenes_per_file = 3)
    return DatasetSource(split_dataset(folder, problems), num_inputs = 2, num_targets = 1, image_size = 16, frame_distances = (2, 5))


@pytest.mark.slow
@pytest.mark.parametrize('start_method', [pytest.param('fork', marks = ON_LINUX), 'spawn'])
@pytest.mark.parametrize('kind', ['chunks', 'worlds'])
def test_samples_do_not_depend_on_workers_or_on_how_they_start(tmp_path, kind, start_method):
    problems = Problems()
    source = chunks_source(tmp_path, problems) if kind == 'chunks' else WorldSource(num_inputs = 2, num_targets = 1, image_size = 8)
    source.sample(0)    # what is cached here is not needed there
    alone = list(training_views(source, range(12), batch_size = 4))
    together = list(training_views(source, range(12), batch_size = 4, workers = 2, start_method = start_method, problems = problems))
    for a, b in zip(alone, together, strict = True):
        assert a.names == b.names
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.cameras.camera_to_world, b.cameras.camera_to_world)


def test_a_source_that_was_read_from_is_pickled_without_what_it_has_read(tmp_path):
    source = chunks_source(tmp_path)
    before = len(pickle.dumps(source))
    first = source.sample(0)
    assert len(pickle.dumps(source)) < before + 100
    assert torch.equal(pickle.loads(pickle.dumps(source)).sample(0).images, first.images)
    pickle.dumps(SyntheticSource(num_inputs = 2, num_targets = 1, image_size = 8))


def test_samples_of_photos_are_carried_as_bytes_and_computed_with_as_numbers(tmp_path):
    batch = chunks_source(tmp_path).training_batch(0, 2)
    assert batch.images.dtype == torch.uint8
    assert batch.images.float().std() > 10
    for images, part in ((batch.input_images, batch.images[:, :2]), (batch.target_images, batch.images[:, 2:])):
        assert torch.equal(images, part.float() / 255)


def counted(folder, most = 4):
    """A function of tensors that writes down how often it was called."""
    calls = []

    def function(number):
        calls.append(number)
        return dict(value = torch.full((3,), float(number)), other = torch.arange(number))

    results = SharedResults(function, most)
    results.folder = folder
    return results, calls


def test_of_processes_that_share_a_folder_one_computes(tmp_path):
    (first, calls), (second, others) = counted(tmp_path), counted(tmp_path)
    a, b = first(3), second(3)
    assert (calls, others) == ([3], [])
    assert all(torch.equal(a[name], b[name]) for name in ('value', 'other'))
    second(5)
    first(5)
    assert (calls, others) == ([3], [5])


def test_a_folder_of_results_keeps_few_and_a_broken_file_is_made_anew(tmp_path):
    results, calls = counted(tmp_path)
    for number in range(10):
        results(number)
    assert len(list(tmp_path.glob('*.pt'))) == 4
    (tmp_path / '9.pt').write_bytes(b'broken')
    other, calls = counted(tmp_path)
    assert torch.equal(other(9)['value'], torch.full((3,), 9.))
    assert calls == [9]


@pytest.mark.slow
@ON_LINUX
def test_workers_render_a_world_once_and_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    monkeypatch.setattr(WorldSource, 'WINDOW', 4)
    log = tmp_path / 'rendered'
    render = WorldSource.render

    def noted(self, seed):
        with open(log, 'a') as file:
            file.write(f'{seed}\n')
        return render(self, seed)

    monkeypatch.setattr(WorldSource, 'render', noted)
    source = WorldSource(num_inputs = 2, num_targets = 1, image_size = 8)
    batches = list(training_views(source, range(48), batch_size = 2, workers = 3))
    rendered = Path(log).read_text().split()
    assert len(batches) == 24
    assert len(rendered) == len(set(rendered))
    assert [path.name for path in tmp_path.iterdir()] == ['rendered']
    assert source.renders.folder is None


def test_the_last_results_are_kept():
    calls = []
    recent = Recent(lambda number: calls.append(number) or -number, 2)
    assert [recent(number) for number in (1, 2, 1, 3, 1, 2)] == [-1, -2, -1, -3, -1, -2]
    assert calls == [1, 2, 3, 2]


class NotedWorlds(WorldSource):
    """Writes down which worlds are rendered."""

    WINDOW = 4

    def __init__(self, log):
        super().__init__(num_inputs = 2, num_targets = 1, image_size = 8)
        self.log = log

    def render(self, seed):
        with open(self.log, 'a') as file:
            file.write(f'{seed}\n')
        return super().render(seed)


def read_all(log, folder, out, rank, workers):
    batches = list(training_views(NotedWorlds(log), range(48), batch_size = 2, rank = rank, processes = 2, workers = workers, shared_folder = folder))
    torch.save([(batch.names, batch.images, batch.cameras.camera_to_world) for batch in batches], out)


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize('workers', [0, 2])
def test_two_processes_render_a_world_once_and_have_the_samples_of_one_without_sharing(tmp_path, workers):
    (tmp_path / 'shared').mkdir()
    log, outs = tmp_path / 'rendered', [tmp_path / f'{rank}.pt' for rank in range(2)]
    processes = [get_context('spawn').Process(target = read_all, args = (log, tmp_path / 'shared', out, rank, workers)) for rank, out in enumerate(outs)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0

    rendered = log.read_text().split()
    assert len(rendered) == len(set(rendered)) > 4
    source = NotedWorlds(tmp_path / 'alone')
    for rank, out in enumerate(outs):
        alone = [source.sample(number) for number in range(48)[rank::2]]
        names, images, poses = zip(*torch.load(out), strict = True)
        expected = source.collate(alone)
        assert [name for each in names for name in each] == expected.names
        assert torch.equal(torch.cat(images), expected.images)
        torch.testing.assert_close(torch.cat(poses), expected.cameras.camera_to_world)
    assert set((tmp_path / 'alone').read_text().split()) == set(rendered)


@pytest.mark.parametrize('what', ['gone', 'full'])
def test_without_the_folder_or_room_in_it_results_are_computed(tmp_path, monkeypatch, what):
    folder = tmp_path / 'shared'
    folder.mkdir()
    results, calls = counted(folder)
    results(3)
    if what == 'gone':
        shutil.rmtree(folder)
    else:
        monkeypatch.setattr(shared_results, 'write_whole', lambda *_, **__: (_ for _ in ()).throw(OSError('no space left')))
    assert torch.equal(results(5)['value'], torch.full((3,), 5.))
    assert torch.equal(results(3)['value'], torch.full((3,), 3.))
    assert calls == [3, 5]
