"""Data that are elsewhere: from servers that stall, reset, truncate and lose files, the same samples come as from the disk."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from servers import http_server, s3_server, wait_until

from lvsm_pytorch.data import DatasetSource, Problems, has_split, open_dataset, open_test, split_dataset, synthetic_scene, write_chunks
from lvsm_pytorch.data import storage as storage_module
from lvsm_pytorch.data.download import Patience, download, patiently
from lvsm_pytorch.data.file_cache import FileCache, default_cache_bytes
from lvsm_pytorch.data.formats.chunks import Chunks
from lvsm_pytorch.data.formats.shards import Shards
from lvsm_pytorch.data.pack import pack
from lvsm_pytorch.data.storage import RemoteFolder, Unreachable, remote_url

pytest.importorskip('fsspec')
pytest.importorskip('aiohttp')

# aiohttp leaves connections to the garbage collector where a server has broken them

pytestmark = [pytest.mark.filterwarnings('ignore::ResourceWarning'), pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'), pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')]

IMPATIENT = Patience(attempts = 4, pause = 0.01, stall = 20., part = 1000)


@pytest.fixture
def cache(tmp_path):
    return FileCache(tmp_path / 'cache', 10 ** 9)


@pytest.fixture
def data(tmp_path):
    """Chunks of 6 scenes, two a file, and the same as shards."""
    folder = tmp_path / 'data'
    write_chunks([synthetic_scene(seed, num_views = 4, image_size = 16) for seed in range(6)], folder / 'chunks', scenes_per_file = 2)
    pack(folder / 'chunks', folder / 'shards', scenes_per_shard = 2)
    return folder


def same_scenes(a, b):
    assert len(a) == len(b)
    for index in range(len(a)):
        assert a.name(index) == b.name(index)
        for one, other in zip(a[index].views, b[index].views, strict = True):
            assert torch.equal(one.load(), other.load())
            assert torch.equal(one.camera_to_world, other.camera_to_world)


@pytest.mark.parametrize('kind, opened', [('chunks', Chunks), ('shards', Shards)])
@pytest.mark.parametrize('fault', ['ok', 'stall', 'reset', 'truncate', 'error'])
def test_a_server_with_faults_gives_what_the_disk_has(data, cache, kind, opened, fault):
    ending = 'torch' if kind == 'chunks' else 'tar'
    patience = IMPATIENT._replace(stall = 1., attempts = 8, part = 5000) if fault == 'stall' else IMPATIENT
    with http_server(data) as server:
        server.faults = {'index.json': [fault], f'000000.{ending}': ['ok', fault, fault, 'ok', fault], f'000002.{ending}': [fault]}
        remote = opened(RemoteFolder(f'{server.url}/{kind}', cache, patience), Problems())
        same_scenes(remote, open_dataset(data / kind))
        assert not server.faults[f'000000.{ending}']
    assert not remote.problems.found


def test_a_server_that_knows_no_ranges_will_do(data, cache):
    with http_server(data) as server:
        server.knows_ranges = False
        same_scenes(Shards(RemoteFolder(f'{server.url}/shards', cache, IMPATIENT), Problems()), open_dataset(data / 'shards'))


def test_a_shard_that_can_not_be_read_is_skipped_and_listed_once(data, cache):
    with http_server(data) as server:
        server.faults = {'000001.tar': ['reset'] * 1000}
        problems = Problems()
        remote = Shards(RemoteFolder(f'{server.url}/shards', cache, IMPATIENT), problems)
        source = DatasetSource(split_dataset(data / 'shards'), num_inputs = 1, num_targets = 1, image_size = 16, frame_distances = (1, 3))
        source.split = source.split._replace(training = remote)
        source = DatasetSource(source.split, num_inputs = 1, num_targets = 1, image_size = 16, frame_distances = (1, 3))
        with pytest.warns(UserWarning, match = r'skipped http.*000001.tar: .*4 attempts failed') as warned:
            names = {source.sample(number).names[0].split('/')[0] for number in range(12)}
        assert names == {f'synthetic-{seed}' for seed in (0, 1, 4, 5)}
        assert len(warned) == len(problems.found) == 1


@pytest.mark.parametrize('broken', [lambda whole: b'?' * 512 + whole[512:], lambda whole: whole[:3000], lambda whole: b''])
def test_a_broken_shard_is_skipped(data, broken):
    whole = (data / 'shards' / '000001.tar').read_bytes()
    (data / 'shards' / '000001.tar').write_bytes(broken(whole))
    problems = Problems()
    dataset = Shards(data / 'shards', problems)
    with pytest.warns(UserWarning, match = '000001.tar: must be a (complete )?tar file'):
        read = [problems.attempt('scene', lambda index = index: dataset[index]) for index in range(6)]
    assert [scene is None for scene in read] == [False, False, True, True, False, False]


def test_a_server_that_is_gone_ends_the_run(data, cache, monkeypatch):
    monkeypatch.setattr(storage_module, 'MOST_FAILED', 2)
    with http_server(data) as server:
        remote = Shards(RemoteFolder(f'{server.url}/shards', cache, IMPATIENT._replace(attempts = 2)), Problems())
    with pytest.warns(UserWarning, match = 'skipped'):
        assert remote.problems.attempt('scene', lambda: remote[0]) is None
    with pytest.raises(Unreachable, match = '2 files one after the other'):
        remote[2]


def test_a_file_that_was_read_is_not_asked_for_again(data, cache):
    with http_server(data) as server:
        same_scenes(Shards(RemoteFolder(f'{server.url}/shards', cache, IMPATIENT), Problems()), open_dataset(data / 'shards'))
        before = dict(server.requests_of)
        again = pickle.loads(pickle.dumps(Shards(RemoteFolder(f'{server.url}/shards', cache, IMPATIENT), Problems())))    # as a worker has it
        same_scenes(again, open_dataset(data / 'shards'))
        assert {name: count for name, count in server.requests_of.items() if name.endswith('tar')} == {name: count for name, count in before.items() if name.endswith('tar')}


def test_samples_are_fetched_in_advance(data, cache):
    with http_server(data) as server:
        remote = Shards(RemoteFolder(f'{server.url}/shards', cache, IMPATIENT), Problems())
        remote.prepare(5)
        wait_until(lambda: len(list(cache.folder.glob('*.tar'))) == 1)
        asked = server.requests_of['000002.tar']
        assert asked > 0
        remote[4]
        assert server.requests_of['000002.tar'] == asked
        assert server.requests_of['000000.tar'] == 0


def test_commands_take_addresses(data, tmp_path, monkeypatch):
    monkeypatch.setenv('LVSM_CACHE', str(tmp_path / 'elsewhere'))
    pack(data / 'shards', data / 'both' / 'train')
    pack(data / 'shards', data / 'both' / 'test')
    with http_server(data) as server:
        url = f'{server.url}/shards'
        assert remote_url(Path(url)) == url    # pathlib takes a slash away
        same_scenes(open_dataset(Path(url)), open_dataset(data / 'shards'))
        assert list((tmp_path / 'elsewhere').glob('*.tar'))
        assert not has_split(url)
        assert has_split(f'{server.url}/both')
        assert len(split_dataset(f'{server.url}/both').held_out) == len(open_test(f'{server.url}/both')) == 6
        with pytest.raises(ValueError, match = r'must have an index.json of chunks or shards, but got http'):
            open_dataset(server.url)


def test_what_is_an_address():
    for location, url in {'s3://b/c': 's3://b/c', 's3:/b/c': 's3://b/c', 'hf://datasets/a/b': 'hf://datasets/a/b', '/a/b': None, 'a/b': None, 'C:/a': None, '~/a': None, 's3': None}.items():
        assert remote_url(location) == remote_url(Path(location)) == url
    with pytest.raises(ValueError, match = 'must be an address that fsspec knows'):
        open_dataset('nowhere://b/c')


def test_buckets_of_s3_are_read(data, cache, monkeypatch):
    pytest.importorskip('s3fs')
    pytest.importorskip('moto')
    import s3fs

    with s3_server(monkeypatch):
        system = s3fs.S3FileSystem(skip_instance_cache = True)
        system.mkdir('bucket')
        system.put(str(data), 'bucket/data', recursive = True)
        for kind, opened in (('chunks', Chunks), ('shards', Shards)):
            remote = open_dataset(f's3://bucket/data/{kind}') if kind == 'chunks' else opened(RemoteFolder(f's3://bucket/data/{kind}', cache), Problems())
            assert isinstance(remote, opened)
            same_scenes(remote, open_dataset(data / kind))
        with pytest.raises(ValueError, match = r'must have an index.json'):
            open_dataset('s3://bucket/data')


@pytest.fixture(autouse = True)
def no_cache_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv('LVSM_CACHE', str(tmp_path / 'of-user'))


# the cache

def fetched(log, content = b'12345'):
    def fetch(path):
        log.append(path.name)
        path.write_bytes(content)
    return fetch


def test_a_cache_keeps_what_was_used_last(tmp_path):
    cache, log = FileCache(tmp_path, 12), []
    for name in ('a', 'b', 'a', 'c'):
        cache.get(f'{name}.tar', 5, fetched(log))
    assert len(log) == 3
    assert sum(path.stat().st_size for path in tmp_path.glob('*.tar')) == 10
    cache.get('a.tar', 5, fetched(log))    # it was used after b, which made room
    assert len(log) == 3
    cache.get('b.tar', 5, fetched(log))
    assert len(log) == 4
    with pytest.raises(ValueError, match = 'LVSM_CACHE_GB: must be more than a single file has'):
        cache.get('d.tar', 13, fetched(log))


def test_a_fetch_that_fails_leaves_no_file_and_is_resumed(tmp_path):
    cache = FileCache(tmp_path, 100)
    parts = [b'123', OSError('reset'), b'45']

    def read(start, end):
        part = parts.pop(0)
        if isinstance(part, Exception):
            raise part
        return part

    def fetch(path):
        download(read, 5, path, 'file', Patience(attempts = 1, part = 3))

    with pytest.raises(OSError, match = 'file: must be readable, but 1 attempts failed, the last with OSError: reset'):
        cache.get('a.tar', 5, fetch)
    assert not list(tmp_path.glob('[!.]*'))
    assert cache.get('a.tar', 5, fetch).read_bytes() == b'12345'


def test_what_is_missing_is_asked_for_once():
    asked = []

    def read():
        asked.append(True)
        raise FileNotFoundError('a')

    with pytest.raises(OSError, match = 'must exist and be readable'):
        patiently(read, 'a', IMPATIENT)
    assert len(asked) == 1


@pytest.mark.parametrize('text', ['much', '-1', '0', 'inf'])
def test_a_cache_of_no_size_is_an_error(monkeypatch, text):
    monkeypatch.setenv('LVSM_CACHE_GB', text)
    with pytest.raises(ValueError, match = 'LVSM_CACHE_GB: must be a number of gigabytes above 0'):
        default_cache_bytes()
    monkeypatch.setenv('LVSM_CACHE_GB', '0.5')
    assert default_cache_bytes() == 5 * 10 ** 8


# shards

def test_an_index_of_later_shards_is_not_read(data):
    index = json.loads((data / 'shards' / 'index.json').read_text())
    (data / 'shards' / 'index.json').write_text(json.dumps(index | dict(version = 2)))
    with pytest.raises(ValueError, match = 'must be of version 1 or before, but got 2'):
        open_dataset(data / 'shards')
