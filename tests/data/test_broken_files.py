"""A file that can't be parsed costs its scene where there are others, and is an error that says where it is broken where there are none."""

from __future__ import annotations

import json
import tarfile
import warnings
from io import BytesIO

import pytest
from servers import http_server

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.data import BadView, Problems, open_dataset, read_scene, synthetic_scene, write_chunks, write_colmap, write_lvsm, write_transforms
from lvsm_pytorch.data.pack import pack
from lvsm_pytorch.files import parse_json
from lvsm_pytorch.training.runs import source_of

# what a file may hold instead of a scene, and what is said about it

CUT = b'{\n "scene_name": "a",\n "frames": [{"w": 1', 'line 3 column 20'
NO_UTF8 = b'{\n "frames": ["\xff"]}', 'not UTF-8: line 2 column 14'
EMPTY = b'', 'an empty file'
ANOTHER = b'[1, 2]', 'must be a JSON object'
WITHOUT_FRAMES = b'{"scene_name": "a", "frames": "none"}', 'list'
TOO_DEEP = b'[' * 100_000, 'too many of them'


def scene(seed):
    return synthetic_scene(seed, num_views = 4, image_size = 16)


def many(write, folder):
    for seed in range(4):
        write(scene(seed), folder / f'{seed}')


def lvsm_files(folder):
    write_lvsm([scene(seed) for seed in range(4)], folder)
    (folder / 'full_list.txt').unlink()


# how many scenes are written, and the file of the first

LAYOUTS = {
    'transforms': (lambda folder: many(write_transforms, folder), '0/transforms.json'),
    'LVSM': (lvsm_files, 'metadata/synthetic-0.json'),
    'LVSM, a folder each': (lambda folder: many(lambda one, inner: write_lvsm([one], inner), folder), '0/metadata/synthetic-0.json'),
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('content, message', [CUT, NO_UTF8, EMPTY, ANOTHER, WITHOUT_FRAMES, TOO_DEEP])
def test_a_broken_json_file_costs_its_scene(tmp_path, layout, content, message):
    write, file = LAYOUTS[layout]
    write(tmp_path)
    (tmp_path / file).write_bytes(content)
    problems = Problems()
    dataset = open_dataset(tmp_path, problems)
    with pytest.warns(UserWarning, match = 'skipped') as warned:
        found = [problems.attempt(dataset.label(index), lambda index = index: dataset[index]) for index in range(len(dataset))]
    assert [each is None for each in found] == [True, False, False, False]
    assert len(warned) == len(problems.found) == 1
    assert file in problems.summary()
    assert message in problems.summary()


@pytest.mark.parametrize('write, file', [(write_transforms, 'transforms.json'), (lambda one, folder: write_lvsm([one], folder), 'metadata/synthetic-0.json')])
def test_a_lone_broken_json_file_is_an_error_that_says_where(tmp_path, write, file):
    write(scene(0), tmp_path)
    (tmp_path / 'full_list.txt').unlink(missing_ok = True)
    (tmp_path / file).write_bytes(CUT[0])
    for path in (tmp_path, tmp_path / file):
        with pytest.raises(ValueError, match = rf'{file}: must be a readable JSON file, but got .*line 3 column 20.* Correct that place'):
            read_scene(path)
        with pytest.raises(ValueError, match = f'{file}.*line 3 column 20'):
            source_of(TrainConfig(data = path, image_size = 16))


@pytest.mark.parametrize('names, content', [(('cameras.bin',), b'broken'), (('images.bin',), b'\x05'), (('cameras.bin', 'images.bin', 'points3D.bin'), b'')])
def test_a_broken_colmap_model_costs_its_scene(tmp_path, names, content):
    many(write_colmap, tmp_path)
    for name in names:
        (tmp_path / '0' / 'sparse' / '0' / name).write_bytes(content)
    problems = Problems()
    dataset = open_dataset(tmp_path, problems)
    with pytest.warns(UserWarning, match = 'skipped'):
        assert problems.attempt(dataset.label(0), lambda: dataset[0]) is None
    assert str(tmp_path / '0') in problems.summary()
    assert len(dataset[1].views) == 4
    with pytest.raises(ValueError, match = '0/sparse/0'):
        read_scene(tmp_path / '0')


@pytest.mark.parametrize('index', ['[', '[]', '{"format": "lvsm-shards"}', '{"format": "lvsm-shards", "shards": [{}]}', '{"format": "lvsm-shards", "version": "new", "shards": []}'])
@pytest.mark.parametrize('kind', ['chunks', 'shards'])
def test_a_broken_index_costs_its_folder(tmp_path, kind, index):
    for part in 'ab':
        write_chunks([scene(0), scene(1)], tmp_path / 'chunks' / part)
        pack(tmp_path / 'chunks' / part, tmp_path / 'shards' / part)
    broken = tmp_path / kind / 'a' / 'index.json'
    broken.write_text(index)
    if kind == 'shards' and index == '[]':
        pytest.skip('tar files beside an index of something else are no shards')
    problems = Problems()
    with pytest.warns(UserWarning, match = 'index.json: must'):
        assert len(open_dataset(tmp_path / kind, problems)) == 2
    assert list(problems.found) == [str(broken.parent)]
    with pytest.raises(BadView, match = 'index.json: must'):
        open_dataset(broken.parent)
    with http_server(tmp_path) as server, pytest.raises(BadView, match = f'{server.url}/{kind}/a/index.json: must'):
        open_dataset(f'{server.url}/{kind}/a')


def test_where_all_folders_are_broken_one_error_says_why(tmp_path):
    for part in 'ab':
        write_chunks([scene(0)], tmp_path / part)
        (tmp_path / part / 'index.json').write_text('[')
    with pytest.warns(UserWarning, match = 'skipped'), pytest.raises(ValueError, match = r'at least one folder that can be read, but got none of 2 in (.|\n)*a/index.json: .*line 1 column 2'):
        open_dataset(tmp_path)


@pytest.mark.parametrize('is_remote', [False, True])
def test_a_broken_scene_of_a_shard_costs_that_scene(tmp_path, monkeypatch, is_remote):
    monkeypatch.setenv('LVSM_CACHE', str(tmp_path / 'cache'))
    write_chunks([scene(seed) for seed in range(3)], tmp_path / 'chunks')
    pack(tmp_path / 'chunks', tmp_path / 'shards')
    shard = tmp_path / 'shards' / '000000.tar'
    with tarfile.open(shard) as archive:
        files = [(member.name, archive.extractfile(member).read()) for member in archive]
    with tarfile.open(shard, 'w') as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            content = CUT[0] if name == '00000001.json' else content
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))

    with http_server(tmp_path) as server:
        where = f'{server.url}/shards' if is_remote else tmp_path / 'shards'
        problems = Problems()
        dataset = open_dataset(where, problems)
        with pytest.warns(UserWarning, match = 'skipped'):
            found = [problems.attempt(dataset.label(index), lambda index = index: dataset[index]) for index in range(3)]
    assert [each is None for each in found] == [False, True, False]
    assert '000000.tar, scene 1: must be a readable JSON file, but got' in problems.summary()
    assert 'line 3 column 20' in problems.summary()


@pytest.mark.parametrize('value', [None, True, [], [1], {}, 'text', 10 ** 400, -1, float('nan')])
@pytest.mark.parametrize('key', ['file_path', 'transform_matrix', 'fl_x', 'w', 'cx', 'k1', 'camera_model', 'camera_angle_x'])
def test_odd_values_of_a_frame_cost_that_frame_at_most(tmp_path, key, value):
    write_transforms(scene(0), tmp_path)
    content = json.loads((tmp_path / 'transforms.json').read_text())
    content['frames'][1][key] = value
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    problems = Problems()
    dataset = open_dataset(tmp_path, problems)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert len(dataset[0].views) + len(problems.found) == 4
    assert all(what.endswith('frame 1') for what in problems.found)


def test_a_byte_order_mark_is_no_error():
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', 'here') == dict(a = 1)
