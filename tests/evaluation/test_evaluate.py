"""A whole evaluation: every scene accounted for, by one process or many, at once or in parts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import counted_passes, times_of, tiny_model

from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import save_config
from lvsm_pytorch.data import open_dataset, split_scenes, synthetic_scene, write_chunks, write_transforms
from lvsm_pytorch.evaluation import evaluate as evaluate_module
from lvsm_pytorch.evaluation.evaluate import evaluate, spread
from lvsm_pytorch.evaluation.index import make_index, write_index
from lvsm_pytorch.evaluation.records import PAGE, REPORT, SCENES
from lvsm_pytorch.evaluation.report import BRIGHTEST, baselines, error_map, extremes, summary, table
from lvsm_pytorch.lvsm.pretrained import TrainedFor


def video(seed, num_views):
    return replace(synthetic_scene(seed, num_views = num_views, image_size = 16), name = f'<video & {seed}>', is_video = True)


@pytest.fixture
def here(tmp_path):
    """A folder with a model, chunks of four videos, one of which is too short, and an index."""
    model = tiny_model(num_depth_planes = 2)
    model.trained_for = TrainedFor('inputs', (16, 16), 2)
    model.save_pretrained(tmp_path / 'model')
    write_chunks([video(seed, 6 if seed == 3 else 14) for seed in range(1, 5)], tmp_path / 'chunks', scenes_per_file = 2)
    write_index(make_index(open_dataset(tmp_path / 'chunks'), frame_distances = (8, 12)), tmp_path / 'index.json')
    return tmp_path


def config(here, **changes):
    return EvaluateConfig(**{**dict(model = here / 'model', data = (here / 'chunks',), index = here / 'index.json', out = here / 'out', robustness_scenes = 1, device = 'cpu'), **changes})


def test_every_scene_is_accounted_for(here, capsys):
    report = evaluate(config(here))
    assert report['scenes'] == dict(evaluated = 3, null = ['<video & 3>'], missing = {})
    assert json.loads((here / 'out' / REPORT).read_text()) == json.loads(json.dumps(report))
    assert [record['scene'] for record in report['per_scene']] == ['<video & 1>', '<video & 2>', '<video & 4>']
    assert all(len(record['psnr']) == len(record['ssim']) == 3 for record in report['per_scene'])
    assert report['metrics']['psnr'] == pytest.approx(sum(sum(record['psnr']) for record in report['per_scene']) / 9)
    assert report['metrics']['moved_world']['scenes'] == 1
    assert len(report['weights']) == len(report['index']) == 64
    assert report['resize_filter'] == 'lanczos'
    assert report['lpips'].startswith('not computed')
    assert {'lvsm-pytorch', 'torch', 'torchmetrics', 'python'} <= set(report['versions'])

    said = capsys.readouterr().out
    assert f'{report["metrics"]["psnr"]:.2f} dB' in said
    assert '3 scenes evaluated, 1 null in the index, 0 missing' in said

    page = (here / 'out' / PAGE).read_text()
    assert page.count('<img ') == 3 * (2 + 3 * 3)    # inputs, and of each target three
    assert '&lt;video &amp; 1&gt;' in page
    assert '<video' not in page
    assert all(word in page for word in ('Worst', 'Median', 'Best', report['weights'], 'truth'))


@pytest.mark.slow
def test_figures_do_not_depend_on_how_it_is_computed(here):
    def found(report):
        return torch.tensor([record['psnr'] + record['ssim'] for record in report['per_scene']])

    expected = found(evaluate(config(here)))
    assert torch.allclose(found(evaluate(config(here, chunk_size = 1, out = here / 'one'))), expected, atol = 1e-4)

    options = ['--model', 'model', '--data', 'chunks', '--index', 'index.json', '--out', 'two', '--robustness_scenes', '1', '--device', 'cpu']
    command = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '-m', 'lvsm_pytorch', 'evaluate', *options]
    done = subprocess.run(command, cwd = here, capture_output = True, text = True, timeout = 120, env = {**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('3 scenes evaluated') == 1
    assert torch.allclose(found(json.loads((here / 'two' / REPORT).read_text())), expected, atol = 1e-4)


def test_accelerate_is_afterwards_as_the_program_has_set_it_up(here):
    from accelerate.state import AcceleratorState, GradientState, PartialState

    kinds = AcceleratorState, GradientState, PartialState
    before = [dict(kind._shared_state) for kind in kinds]
    PartialState(cpu = True)
    own = dict(PartialState._shared_state)

    try:
        evaluate(config(here, robustness_scenes = 0))
        assert PartialState._shared_state == own
    finally:
        for kind, state in zip(kinds, before, strict = True):
            kind._shared_state.clear()
            kind._shared_state.update(state)


def test_an_interrupted_evaluation_resumes(here):
    scenes = here / 'out' / SCENES

    with counted_passes() as passes:
        whole = evaluate(config(here, robustness_scenes = 0, out = here / 'whole'))
    with counted_passes(at_most = len(passes) // 3), pytest.raises(KeyboardInterrupt):
        evaluate(config(here, robustness_scenes = 0))
    assert 0 < len(list(scenes.glob('*.json'))) < 3
    assert not (here / 'out' / REPORT).exists()

    for _ in range(2):
        before = times_of(scenes)
        report = evaluate(config(here, robustness_scenes = 0))
        assert report['per_scene'] == whole['per_scene']
        assert before.items() <= times_of(scenes).items()

    with pytest.raises(ValueError, match = 'out: must be a new folder, or one with the same settings, but got .*resize_filter lanczos instead of bicubic'):
        evaluate(config(here, robustness_scenes = 0, resize_filter = 'bicubic'))
    tiny_model(num_depth_planes = 2).save_pretrained(here / 'model')
    with pytest.raises(ValueError, match = 'weights'):
        evaluate(config(here, robustness_scenes = 0))
    assert evaluate(config(here, robustness_scenes = 0, overwrite = True))['weights'] != whole['weights']
    assert not set(before.values()) & set(times_of(scenes).values())


def test_missing_scenes_fail_it_unless_they_may(here):
    index = json.loads((here / 'index.json').read_text())
    (here / 'more.json').write_text(json.dumps({**index, 'nowhere': dict(context = [0, 1], target = [2])}))
    with pytest.raises(ValueError, match = "data: must have all scenes of the index, but got 1 of 5 missing: .'nowhere': 'is not in the dataset'"):
        evaluate(config(here, index = here / 'more.json'))
    assert not (here / 'out').exists()
    report = evaluate(config(here, index = here / 'more.json', allow_missing = True))
    assert report['scenes'] == dict(evaluated = 3, null = ['<video & 3>'], missing = {'nowhere': 'is not in the dataset'})

    # one that is there and can't be read tells only then; all others are reported

    shutil.copy(here / 'chunks' / '000000.torch', here / 'whole.torch')
    content = torch.load(here / 'chunks' / '000000.torch')
    content[1]['images'][index['<video & 2>']['target'][0]] = torch.zeros(3, dtype = torch.uint8)
    torch.save(content, here / 'chunks' / '000000.torch')
    with pytest.warns(UserWarning, match = 'skipped'), pytest.raises(ValueError, match = r'1 of 4 missing: .*video & 2'):
        evaluate(config(here, out = here / 'broken'))
    report = json.loads((here / 'broken' / REPORT).read_text())
    assert report['scenes']['evaluated'] == 2
    assert 'readable image' in report['scenes']['missing']['<video & 2>']

    # and is tried again

    shutil.copy(here / 'whole.torch', here / 'chunks' / '000000.torch')
    assert evaluate(config(here, out = here / 'broken'))['scenes']['evaluated'] == 3


def test_photos_and_built_in_scenes_are_evaluated_without_an_index(here, monkeypatch):
    write_transforms(synthetic_scene(1, num_views = 20, image_size = 24), here / 'photos')
    report = evaluate(config(here, data = (here / 'photos',), index = None, out = here / 'of-photos'))
    assert (report['protocol'], report['scenes']['evaluated']) == ('nearest', 1)
    report = evaluate(config(here, data = (here / 'photos',), index = None, protocol = 'index', out = here / 'of-photos-by-index'))
    assert report['scenes']['evaluated'] == 1
    assert len(report['per_scene'][0]['psnr']) == 3
    monkeypatch.setattr(evaluate_module, 'NUM_SYNTHETIC', 3)
    report = evaluate(config(here, data = None, index = None, out = None, robustness_scenes = 0))
    assert report['scenes']['evaluated'] == 3
    assert 'moved_world' not in report['metrics']
    assert (here / 'model' / 'evaluation' / REPORT).is_file()


def test_a_run_is_evaluated_on_its_held_out_scenes(here):
    save_config(here / 'model', TrainConfig(data = here / 'chunks', min_frame_distance = 8, max_frame_distance = 12))
    report = evaluate(config(here, data = None, index = None))
    held_out = split_scenes(open_dataset(here / 'chunks')).held_out
    assert sorted([*report['scenes']['null'], *(record['scene'] for record in report['per_scene'])]) == sorted(held_out[number].name for number in range(len(held_out)))
    assert len(held_out) < 4

    with pytest.warns(UserWarning, match = 'that were not held out are training scenes'):
        evaluate(config(here, data = None, out = here / 'of-all'))

    (here / 'both').mkdir()
    write_chunks([video(seed, 40) for seed in (8, 9)], here / 'both' / 'train')
    write_chunks([video(7, 40)], here / 'both' / 'test')
    report = evaluate(config(here, data = (here / 'both',), index = None, out = here / 'of-test'))
    assert [record['scene'] for record in report['per_scene']] == ['<video & 7>']


@pytest.mark.parametrize('changes, message', [
    (dict(model = 'nowhere'), 'folder_or_hub_id'),
    (dict(index = 'nowhere.json'), 'index: must be a readable JSON file'),
    (dict(data = 'nowhere'), 'data: must be'),
    (dict(image_size = 12), 'image_size: must be a multiple of patch_size 8'),
    (dict(pose_frame = 'scene'), 'pose_frame: must be inputs or inputs_and_targets'),
    (dict(image_size = 0), 'image_size: must be at least 1'),
    (dict(chunk_size = 0), 'chunk_size: must be at least 1'),
    (dict(robustness_scenes = -1), 'robustness_scenes: must be at least 0'),
])
def test_mistakes_are_named(here, changes, message):
    changes = {name: here / value if name in ('model', 'index') else (here / value,) if name == 'data' else value for name, value in changes.items()}
    with pytest.raises(ValueError, match = message):
        evaluate(config(here, **changes))


# the report

def record(scene, *psnr, **more):
    return dict(scene = scene, psnr = list(psnr), ssim = [0.5] * len(psnr), copy_psnr = [10.], copy_ssim = [0.1], blur_psnr = [14.], blur_ssim = [0.3], **more)


def test_scenes_count_alike():
    records = [record('a', 10., 20., lpips = [0.2, 0.4]), record('b', 30., lpips = [0.1])]
    assert summary(records) == dict(psnr = 22.5, ssim = 0.5, lpips = pytest.approx(0.2))
    assert baselines(records) == dict(copy = dict(psnr = 10., ssim = 0.1), blur = dict(psnr = 14., ssim = 0.3))
    assert 'lpips' not in summary([*records, record('c', 1.)])

    checked = [record('a', 10., moved = dict(change = 2., psnr = 9., psnr_before = 10.), by_inputs = {'1': 8., '2': 10.}), record('b', 20., moved = dict(change = 4., psnr = 19., psnr_before = 20.), by_inputs = {'1': 12.})]
    figures = summary([*checked, record('c', 30.)])
    assert figures['moved_world'] == dict(change = 3., psnr = 14., psnr_before = 15., scenes = 2)
    assert figures['by_inputs'] == {'1': dict(psnr = 10., scenes = 2), '2': dict(psnr = 10., scenes = 1)}
    report = dict(metrics = figures, baselines = baselines(checked), lpips = 'left out', scenes = dict(evaluated = 3, null = [], missing = {'d': 'gone'}))
    assert all(word in table(report) for word in ('20.00 dB', '14.00 dB', 'change by 3.00 / 256', '1: 10.00 dB (2)', 'missing: d: gone'))


def test_the_worst_the_middle_and_the_best_are_shown():
    ranked = [record(f'{psnr:02}', float(psnr)) for psnr in range(20)]
    shown = {name: [each['scene'] for each in group] for name, group in extremes(ranked[::-1]).items()}
    assert shown == dict(worst = ['00', '01', '02'], median = ['08', '09', '10'], best = ['19', '18', '17'])
    for count in range(1, 20):
        groups = extremes(ranked[:count])
        names = [each['scene'] for group in groups.values() for each in group]
        assert len(names) == len(set(names)) <= count
        assert {'00', f'{count - 1:02}'} <= set(names)
        assert all(group == sorted(group, key = lambda each: each['psnr'], reverse = name == 'best') for name, group in groups.items())


def test_a_difference_is_the_brighter_the_larger_it_is():
    view = torch.zeros(3, 1, 3)
    truth = view + torch.tensor([0., BRIGHTEST / 2, 1.])
    brightness = error_map(view, truth).sum(dim = 0)[0]
    assert brightness[0] < 0.1 < brightness[1] < brightness[2]


def test_scenes_to_check_are_spread_evenly():
    names = [str(number) for number in range(10)]
    assert spread(names, 3) == ['0', '4', '9']
    assert spread(names, 1) == ['0']
    assert spread(names, 0) == []
    assert spread(names, 99) == names
