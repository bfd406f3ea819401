"""Several datasets in one: all their scenes, by names of their own, however they are stored and wherever they are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from servers import http_server

from lvsm_pytorch.cli import main
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.data import BadView, Problems, open_dataset, open_test, split_dataset, synthetic_scene, training_views, write_chunks, write_lvsm, write_transforms
from lvsm_pytorch.data.several import joined_by_name, prefixes
from lvsm_pytorch.evaluation.index import read_index
from lvsm_pytorch.training.loop import train
from lvsm_pytorch.training.runs import CHECKPOINTS, source_of

pytest.importorskip('fsspec')
pytest.importorskip('aiohttp')

pytestmark = [pytest.mark.filterwarnings('ignore::ResourceWarning'), pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'), pytest.mark.filterwarnings('ignore:some videos have fewer')]


def scenes(*seeds):
    return [synthetic_scene(seed, num_views = 4, image_size = 16) for seed in seeds]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Nine scenes in each of three formats, of which some have the same names in two of them."""
    monkeypatch.setenv('LVSM_CACHE', str(tmp_path / 'cache'))
    folder = tmp_path / 'data'
    write_chunks(scenes(*range(9)), folder / 'chunks', scenes_per_file = 2)
    write_lvsm(scenes(*range(3, 12)), folder / 'json')
    for scene in scenes(*range(20, 29)):
        write_transforms(scene, folder / 'photos' / scene.name)
    return folder


@pytest.fixture
def server(data):
    with http_server(data) as server:
        yield server


def config_of(*data, **changes):
    tiny = dict(dim = 16, depth = 1, dim_head = 16, image_size = 16, num_inputs = 1, steps = 4, batch_size = 2, evaluate_every = 10, save_every = 2, tensorboard = False, device = 'cpu', num_depth_planes = 0)
    return TrainConfig(data = data, **{**tiny, **changes})


def scene_of(view):
    """Of DATASET/SCENE/VIEW, which may have more slashes."""
    return '/'.join(view.split('/')[:2])


def names_in(split):
    return [{part.name(index) for index in range(len(part))} for part in split]


def test_all_scenes_are_there_by_names_of_their_own(data, server):
    several = open_dataset([f'{server.url}/chunks', data / 'json', str(data / 'photos')])
    assert [several.name(index) for index in range(27)] == [f'chunks/synthetic-{seed}' for seed in range(9)] + [f'json/synthetic-{seed}' for seed in range(3, 12)] + [f'photos/synthetic-{seed}' for seed in range(20, 29)]
    assert several.format == "RealEstate10K chunks, LVSM authors' JSON, transforms.json"
    for index in (4, 12, 26):
        scene = several[index]
        alone = open_dataset(data / scene.name.split('/')[0])[index % 9]
        assert scene.name == several.name(index) == f'{scene.name.split("/")[0]}/{alone.name}'
        assert torch.equal(scene.views[1].load(), alone.views[1].load())
    assert list(several.starts) == [0, 2, 4, 6, 8, *range(9, 27)]


def test_of_each_dataset_scenes_are_held_out_and_all_others_are_trained_with(data, server):
    config = config_of(f'{server.url}/chunks', data / 'json', data / 'photos')
    source = source_of(config)
    training, held_out = names_in(source.split)
    assert not training & held_out
    assert len(training | held_out) == 27
    assert held_out == {f'{part}/synthetic-{seed}' for part, seeds in dict(chunks = (0, 8), json = (3, 11), photos = (20, 28)).items() for seed in seeds}
    assert {scene_of(name) for number in range(21) for name in source.sample(number).names} == training
    assert {scene_of(name) for name in source.held_out().names} == held_out


def test_a_sample_is_a_function_of_its_number(data, server):
    config = config_of(f'{server.url}/chunks', data / 'photos')
    source, again = source_of(config), source_of(config)
    expected = {number: source.sample(number) for number in range(8)}
    batches = [list(training_views(again, range(8), batch_size = 2, rank = rank, processes = 2, workers = workers)) for rank, workers in ((1, 0), (0, 2))]
    for numbers, found in zip(((1, 3, 5, 7), (0, 2, 4, 6)), batches, strict = True):
        assert [name for batch in found for name in batch.names] == [expected[number].names[0] for number in numbers]
        assert torch.equal(torch.cat([batch.images for batch in found]), torch.cat([expected[number].images for number in numbers]))


def test_scenes_of_one_name_have_scales_of_their_own(tmp_path):
    """What is kept by the name of a scene is not that of another dataset's."""
    near, far = scenes(0, 0)
    far = replace(far, views = tuple(replace(view, load = lambda load = view.load: load().flip(0)) for view in far.views))
    for name, scene in dict(a = near, b = far).items():
        for number in range(2):
            write_transforms(scene, tmp_path / name / f'{number}')
    source = source_of(config_of(tmp_path / 'a', tmp_path / 'b', scale = 'depth', num_inputs = 2))
    for number in range(6):
        source.sample(number)
    assert {inputs[0].split('/')[0] for inputs in source.scales} == {'a', 'b'}


def test_train_and_test_of_one_and_lone_scenes_of_others(data, tmp_path):
    (data / 'both').mkdir()
    write_chunks(scenes(30, 31), data / 'both' / 'train')
    write_chunks(scenes(32), data / 'both' / 'test')
    one, two = data / 'photos' / 'synthetic-20', data / 'photos' / 'synthetic-21'
    training, held_out = names_in(split_dataset([data / 'both', one]))
    assert training == {'both/synthetic-30', 'both/synthetic-31', 'synthetic-20/synthetic-20'}
    assert held_out == {'both/synthetic-32'}
    assert names_in(split_dataset([one, two])) == [{'synthetic-21/synthetic-21'}, {'synthetic-20/synthetic-20'}]
    assert len(open_test([data / 'both', data / 'chunks'])) == 10


def test_held_out_scenes_are_shared_out_among_datasets(monkeypatch, data):
    from lvsm_pytorch.data import discovery

    monkeypatch.setattr(discovery, 'MOST_HELD_OUT', 3)
    _, held_out = names_in(split_dataset([data / 'chunks', data / 'json', data / 'photos']))
    assert held_out == {'chunks/synthetic-0', 'json/synthetic-3', 'photos/synthetic-20'}


@pytest.mark.parametrize('paths, expected', [
    (['/a/re10k', 's3://b/dl3dv/', 'hf://datasets/c/acid'], ['re10k', 'dl3dv', 'acid']),
    (['/a/x/shards', '/a/y/shards', 's3://b/z'], ['x/shards', 'y/shards', 'z']),
    (['s3://b/x', 'gs://b/x'], ['s3:/b/x', 'gs:/b/x']),
])
def test_names_of_datasets_differ(paths, expected):
    assert list(prefixes(paths).values()) == expected


def test_indices_keep_names_unless_two_datasets_have_them(data):
    def named(*parts):
        whole = joined_by_name({str(data / part): open_dataset(data / part) for part in parts}, Problems())
        return {whole.name(index) for index in range(len(whole))}

    assert named('chunks', 'photos') == {f'synthetic-{seed}' for seed in (*range(9), *range(20, 29))}
    assert named('chunks', 'json') == {*(f'chunks/synthetic-{seed}' for seed in range(9)), *(f'json/synthetic-{seed}' for seed in range(3, 12))}
    assert named('chunks') == {f'synthetic-{seed}' for seed in range(9)}


@pytest.mark.parametrize('change, message', [
    (lambda data, url: [data / 'chunks', data / 'nowhere'], '{data}/nowhere: nothing of that name'),
    (lambda data, url: [data / 'chunks', f'{url}/nowhere'], 'must have an index.json of chunks or shards, but got {url}/nowhere'),
    (lambda data, url: [data / 'chunks', 'nowhere://b/c'], 'nowhere://b/c'),
    (lambda data, url: [data / 'chunks', data / 'json' / '..' / 'chunks'], 'must be folders and addresses that differ, but got {data}/chunks twice'),
    (lambda data, url: [data / 'photos', data / 'chunks', data / 'photos' / 'synthetic-20'], 'not in each other, but got {data}/photos/synthetic-20 in {data}/photos'),
    (lambda data, url: [], 'must be at least one folder or address'),
])
def test_what_is_wrong_is_named_with_its_address(data, server, change, message):
    for function in (open_dataset, split_dataset, open_test):
        with pytest.raises(ValueError, match = message.format(data = data, url = server.url)):
            function(change(data, server.url))


def test_a_broken_index_of_one_is_an_error_that_names_it(data, server):
    (data / 'chunks' / 'index.json').write_text('{')
    for chunks in (data / 'chunks', f'{server.url}/chunks'):
        with pytest.raises(BadView, match = f'{chunks}/index.json: must be a readable JSON file'):
            open_dataset([data / 'photos', chunks])


# configs and commands

def test_one_path_is_as_simple_as_it_was():
    for data in ('photos', ['photos'], (Path('photos'),), Path('photos')):
        assert TrainConfig(data = data).data == Path('photos')
    assert TrainConfig(data = ['a', Path('b')]).data == TrainConfig(data = (Path('a'), 'b')).data == (Path('a'), Path('b'))


@pytest.mark.slow
def test_training_resumes_and_is_evaluated_with_a_folder_and_an_address(data, server, tmp_path, capsys):
    config = config_of(data / 'photos', f'{server.url}/chunks', out = tmp_path / 'run')
    train(config)
    assert '14 scenes to train with, 4 held out' in capsys.readouterr().out

    # an interrupted run ends with the same weights

    shutil.copytree(tmp_path / 'run', tmp_path / 'again')
    (tmp_path / 'again' / CHECKPOINTS / 'step-00000004.pt').unlink()
    train(replace(config, out = tmp_path / 'again'), resume = True)
    assert 'resumes after step 2 of 4' in capsys.readouterr().out
    weights, again = (load_file(tmp_path / run / 'model.safetensors') for run in ('run', 'again'))
    assert all(torch.equal(weights[name], again[name]) for name in weights)

    # without --data, the held-out scenes of both are evaluated

    from lvsm_pytorch.configs.evaluate import EvaluateConfig
    from lvsm_pytorch.evaluation.evaluate import evaluate

    report = evaluate(EvaluateConfig(model = tmp_path / 'run', protocol = 'index', robustness_scenes = 0, device = 'cpu', allow_missing = True))
    known = {*(record['scene'] for record in report['per_scene']), *report['scenes']['null'], *report['scenes']['missing']}
    assert known == {'synthetic-20', 'synthetic-28', 'synthetic-0', 'synthetic-8'}


def test_commands_take_several(data, server, tmp_path, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr('sys.argv', ['lvsm', *map(str, words)])
        main()

    both = data / 'photos', f'{server.url}/chunks'
    run('make-index', '--data', *both, '--index', tmp_path / 'index.json', '--num-inputs', 1, '--num-targets', 1, '--min-frame-distance', 1)
    assert set(read_index(tmp_path / 'index.json')) == {f'synthetic-{seed}' for seed in (*range(9), *range(20, 29))}
    run('pack', '--data', *both, '--out', tmp_path / 'shards', '--scenes-per-shard', 10)
    packed = open_dataset(tmp_path / 'shards')
    assert {packed.name(index) for index in range(len(packed))} == {*(f'chunks/synthetic-{seed}' for seed in range(9)), *(f'photos/synthetic-{seed}' for seed in range(20, 29))}


def test_packing_keeps_train_and_test_of_those_that_have_them(data, tmp_path):
    from lvsm_pytorch.data.pack import pack

    write_chunks(scenes(30, 31), data / 'both' / 'train')
    write_chunks(scenes(32), data / 'both' / 'test')
    assert pack([data / 'both', data / 'chunks'], tmp_path / 'shards') == {tmp_path / 'shards' / 'train': 11, tmp_path / 'shards' / 'test': 1}
