"""Evaluation indices: those that are read, and those that are made."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lvsm_pytorch.data import BadView, Problems, Scenes, Subset, hold_out, open_dataset, synthetic_scene, write_chunks
from lvsm_pytorch.evaluation.index import Entry, make_index, read_index, views_of, write_index


def video(seed, num_views):
    return replace(synthetic_scene(seed, num_views = num_views, image_size = 8), is_video = True)


def dataset(*scenes):
    return Scenes('scenes', [lambda scene = scene: scene for scene in scenes], Problems())


def test_an_index_is_read_as_pixelsplat_writes_it(tmp_path):
    path = tmp_path / 'index.json'
    path.write_text('{"5aca87f95a9412c6": {"context": [58, 133], "target": [69, 91, 107]}, "322261824c4a3003": null}')
    index = read_index(path)
    assert index == {'5aca87f95a9412c6': Entry((58, 133), (69, 91, 107)), '322261824c4a3003': None}
    write_index(index, tmp_path / 'folder' / 'again.json')
    assert json.loads((tmp_path / 'folder' / 'again.json').read_text()) == json.loads(path.read_text())


@pytest.mark.parametrize('content, message', [
    ('{', 'index: must be a readable JSON file'),
    ('[]', 'index: must be a JSON object of scenes'),
    ('{}', 'index: must be a JSON object of scenes'),
    ('{"a": {"context": [1]}}', 'a: must have numbers of views as target, but got None'),
    ('{"a": {"context": [], "target": [1]}}', 'a: must have numbers of views as context'),
    ('{"a": {"context": [-1], "target": [1]}}', 'a: must have numbers of views as context'),
    ('{"a": {"context": ["1"], "target": [1]}}', 'a: must have numbers of views as context'),
    ('{"a": 3}', 'a: must have numbers of views as context'),
])
def test_what_is_no_index_is_named(tmp_path, content, message):
    (tmp_path / 'index.json').write_text(content)
    with pytest.raises(ValueError, match = message):
        read_index(tmp_path / 'index.json')
    with pytest.raises(ValueError, match = 'index: must be a readable JSON file'):
        read_index(tmp_path / 'none.json')


@pytest.mark.parametrize('num_inputs, num_targets', [(1, 1), (2, 3), (4, 6)])
def test_targets_of_videos_lie_between_their_inputs(num_inputs, num_targets):
    scenes = dataset(*(video(seed, num_views) for seed, num_views in ((1, 40), (2, 25), (3, 60), (4, 12))))
    index = make_index(scenes, num_inputs = num_inputs, num_targets = num_targets, frame_distances = (15, 30))
    assert index['synthetic-4'] is None
    for name, total in (('synthetic-1', 40), ('synthetic-2', 25), ('synthetic-3', 60)):
        context, target = index[name]
        assert len(set(context)) == num_inputs
        assert len(set(target)) == num_targets
        assert not set(context) & set(target)
        assert 0 <= min(*context, *target) <= max(*context, *target) < total
        if num_inputs > 1:
            assert 15 <= context[-1] - context[0] <= 30
            assert context[0] < min(target) <= max(target) < context[-1]


def test_targets_of_photos_are_held_out_and_inputs_are_near():
    scene = synthetic_scene(1, num_views = 30, image_size = 8)
    context, target = make_index(dataset(scene), num_inputs = 2, num_targets = 3)['synthetic-1']
    held_out = {view.name for view in hold_out(scene)[1].views}
    assert {scene.views[number].name for number in target} <= held_out
    assert not {scene.views[number].name for number in context} & held_out
    centres = torch.stack([view.camera_to_world[:3, 3] for view in scene.views])
    distance = (centres[:, None] - centres[list(target)]).norm(dim = -1).mean(dim = 1)
    assert distance[list(context)].max() < distance.median()


def test_an_entry_depends_on_its_scene_alone():
    scenes = dataset(video(1, 40), video(2, 40), synthetic_scene(3, num_views = 20, image_size = 8))
    index = make_index(scenes)
    assert make_index(Subset(scenes, [2, 0])) == {name: index[name] for name in ('synthetic-3', 'synthetic-1')}
    assert make_index(Subset(scenes, [1])) == {'synthetic-2': index['synthetic-2']}
    assert make_index(scenes, seed = 1) != index
    assert index['synthetic-1'] != index['synthetic-2']
    with pytest.raises(ValueError, match = 'data: must have scenes with unique names, but got synthetic-1 twice'):
        make_index(Subset(scenes, [0, 0]))


def test_numbers_are_those_of_the_file_whatever_is_wrong_with_some(tmp_path):
    scene = video(1, 8)
    write_chunks([scene], tmp_path)
    content = torch.load(tmp_path / '000000.torch')
    content[0]['cameras'][2, 0] = torch.nan
    torch.save(content, tmp_path / '000000.torch')
    problems = Problems()
    with pytest.warns(UserWarning, match = 'skipped'):
        read = open_dataset(tmp_path, problems)[0]
    assert len(read.views) == 7
    chosen = views_of(read, Entry((0, 3), (5,)))
    assert [view.name for view in chosen.views] == ['000000000000', '000000000003', '000000000005']
    assert torch.allclose(chosen.views[1].camera_to_world.float(), scene.views[3].camera_to_world, atol = 1e-5)
    with pytest.raises(BadView, match = r'synthetic-1: must have the views of the index, but got none of number \[2, 9\]'):
        views_of(read, Entry((0, 2), (9,)))
    context, target = make_index(dataset(read), num_inputs = 3, num_targets = 4, frame_distances = (6, 7))['synthetic-1']
    assert {*context, *target} == {0, 1, 3, 4, 5, 6, 7}


def test_a_scene_that_cannot_be_read_is_null_under_its_name(tmp_path):
    write_chunks([video(1, 8), video(2, 8)], tmp_path)
    content = torch.load(tmp_path / '000000.torch')
    content[0]['cameras'] = content[0]['cameras'][:3]
    torch.save(content, tmp_path / '000000.torch')
    with pytest.warns(UserWarning, match = 'skipped'):
        index = make_index(open_dataset(tmp_path), frame_distances = (4, 7))
    assert index['synthetic-1'] is None
    assert index['synthetic-2'] is not None
