"""Shards have what the dataset has, are read by others, and are written whole."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from lvsm_pytorch.cli import main
from lvsm_pytorch.data import Problems, open_dataset, synthetic_scene, write_chunks, write_transforms
from lvsm_pytorch.data import pack as pack_module
from lvsm_pytorch.data.pack import pack


@pytest.fixture
def photos(tmp_path):
    for seed in range(5):
        write_transforms(synthetic_scene(seed, num_views = 4, image_size = 24), tmp_path / 'photos' / f'scene{seed}')
    return tmp_path / 'photos'


def packed(data, out, **options):
    pack(data, out, **options)
    return open_dataset(out)


def test_packed_scenes_are_those_of_the_dataset(photos, tmp_path):
    content = json.loads((photos / 'scene1' / 'transforms.json').read_text())
    content['val_filenames'] = [content['frames'][2]['file_path']]
    (photos / 'scene1' / 'transforms.json').write_text(json.dumps(content))
    before, after = open_dataset(photos), packed(photos, tmp_path / 'shards', scenes_per_shard = 2)
    assert after.format == 'WebDataset shards'
    assert len(after) == 5
    assert list(after.starts) == [0, 2, 4]
    for index in range(5):
        one, other = before[index], after[index]
        assert (one.name, one.is_video, one.held_out) == (other.name, other.is_video, other.held_out) == (after.name(index), False, one.held_out)
        for a, b in zip(one.views, other.views, strict = True):
            assert (a.name, a.size) == (b.name, b.size)
            assert torch.equal(a.load(), b.load())    # files are copied
            assert torch.equal(a.camera_to_world, b.camera_to_world)
            assert torch.equal(a.intrinsics, b.intrinsics)
    assert len(after[1].held_out) == 1


def test_videos_stay_videos_and_images_become_small(tmp_path):
    write_chunks([synthetic_scene(0, num_views = 3, image_size = 48)], tmp_path / 'chunks')
    before, after = open_dataset(tmp_path / 'chunks')[0], packed(tmp_path / 'chunks', tmp_path / 'shards', image_size = 16)[0]
    assert after.is_video
    for a, b in zip(before.views, after.views, strict = True):
        assert b.size == (16, 16)
        image, intrinsics = a.fitted((16, 16))
        assert (b.load() - image).abs().mean() < 0.02
        assert torch.allclose(b.intrinsics, intrinsics)


@pytest.mark.filterwarnings('ignore::ResourceWarning', 'ignore::pytest.PytestUnraisableExceptionWarning')    # it leaves files open
def test_webdataset_reads_the_same_files(photos, tmp_path):
    webdataset = pytest.importorskip('webdataset')
    pack(photos, tmp_path / 'shards', scenes_per_shard = 3)
    samples = list(webdataset.WebDataset(sorted(map(str, (tmp_path / 'shards').glob('*.tar'))), shardshuffle = False))
    assert [json.loads(sample['json'])['name'] for sample in samples] == [f'scene{seed}' for seed in range(5)]
    assert all(sum(key.endswith('.png') for key in sample) == 4 for sample in samples)


def test_what_was_stopped_is_resumed_and_other_work_is_kept(photos, tmp_path, monkeypatch):
    whole = tmp_path / 'whole'
    pack(photos, whole, scenes_per_shard = 1)
    written = []
    write_shard = pack_module.write_shard

    def write(dataset, numbers, size, path):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(numbers)
        write_shard(dataset, numbers, size, path)

    out = tmp_path / 'shards'
    monkeypatch.setattr(pack_module, 'write_shard', write)
    with pytest.raises(KeyboardInterrupt):
        pack(photos, out, scenes_per_shard = 1)
    assert not (out / 'index.json').exists()
    monkeypatch.setattr(pack_module, 'write_shard', write_shard)
    times = {path.name: path.stat().st_mtime_ns for path in out.glob('*.tar')}
    assert len(times) == 2
    pack(photos, out, scenes_per_shard = 1)
    assert all((out / name).stat().st_mtime_ns == time for name, time in times.items())
    assert [path.read_bytes() for path in sorted(out.glob('*.tar'))] == [path.read_bytes() for path in sorted(whole.glob('*.tar'))]
    with pytest.raises(ValueError, match = 'out: must be a new folder, or one with the same settings'):
        pack(photos, out, scenes_per_shard = 2)
    assert len(list(out.glob('*.tar'))) == 5
    pack(photos, out, scenes_per_shard = 2, overwrite = True)
    assert len(list(out.glob('*.tar'))) == 3


def test_a_bad_image_costs_a_view_and_a_bad_scene_itself(photos, tmp_path):
    sorted((photos / 'scene0' / 'images').iterdir())[1].write_bytes(b'broken')
    content = json.loads((photos / 'scene3' / 'transforms.json').read_text())
    content['frames'] = [dict(frame, transform_matrix = None) for frame in content['frames']]
    (photos / 'scene3' / 'transforms.json').write_text(json.dumps(content))
    problems = Problems()
    with pytest.warns(UserWarning, match = 'skipped'):
        counts = pack(photos, tmp_path / 'shards', scenes_per_shard = 2, problems = problems)
    assert counts == {tmp_path / 'shards': 4}
    assert len(problems.found) == 2
    dataset = open_dataset(tmp_path / 'shards')
    assert [dataset.name(index) for index in range(4)] == ['scene0', 'scene1', 'scene2', 'scene4']
    assert [len(dataset[index].views) for index in range(4)] == [3, 4, 4, 4]


def test_both_parts_of_a_dataset_are_packed_by_the_command(photos, tmp_path, monkeypatch, capsys):
    data = tmp_path / 'data'
    for part, scenes in dict(train = (0, 1, 2), test = (3, 4)).items():
        for seed in scenes:
            (data / part).mkdir(parents = True, exist_ok = True)
            (photos / f'scene{seed}').rename(data / part / f'scene{seed}')
    monkeypatch.setattr('sys.argv', ['lvsm', 'pack', '--data', str(data), '--out', str(tmp_path / 'shards'), '--image-size', '12'])
    main()
    assert f'{tmp_path / "shards" / "train"} has 3 scenes' in capsys.readouterr().out
    assert len(open_dataset(tmp_path / 'shards' / 'test')) == 2
    assert open_dataset(tmp_path / 'shards' / 'test')[0].views[0].load().shape == (3, 12, 12)


def test_an_image_of_another_kind_becomes_a_jpeg(tmp_path):
    write_transforms(synthetic_scene(0, num_views = 3, image_size = 24), tmp_path / 'photos')
    for path in (tmp_path / 'photos' / 'images').iterdir():
        with Image.open(path) as image:
            image.convert('RGB').save(path, format = 'BMP')
    before, after = open_dataset(tmp_path / 'photos')[0], packed(tmp_path / 'photos', tmp_path / 'shards')[0]
    assert all((a.load() - b.load()).abs().mean() < 0.02 for a, b in zip(before.views, after.views, strict = True))
