"""The recipe study goes on where it was cut off, and gives all arms the same to learn from."""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import counted_passes

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks' / 'quality'))

import photos
import study
from arms import ARMS, Network

from lvsm_pytorch.data import synthetic_scene, write_transforms
from lvsm_pytorch.evaluation.metrics import Score
from lvsm_pytorch.training.muon import Muon
from lvsm_pytorch.training.optim import optimizer_of

TINY = dict(dim = 32, depth = 1, dim_head = 16, patch_size = 8)


@pytest.fixture(autouse = True)
def small(monkeypatch):
    for name, value in dict(POOL = 8, HELD_OUT = 4, BATCH_SIZE = 4, VALIDATIONS = 3).items():
        monkeypatch.setattr(study, name, value)
    study.held_out.cache_clear()
    yield
    study.held_out.cache_clear()


@pytest.mark.parametrize('name', ['paper', 'prope, 2e-3', 'cacheable sweep prope, 3 targets, muon'])
def test_a_run_that_is_cut_off_resumes(name, tmp_path):
    for folder in ('whole', 'cut'):
        (tmp_path / folder).mkdir()
    with counted_passes() as passes:
        whole = study.run(ARMS[name], 0, 6, tmp_path / 'whole', **TINY)
    assert [point['step'] for point in whole['curve']] == [2, 4, 6]

    with counted_passes(at_most = len(passes) * 3 // 4), pytest.raises(KeyboardInterrupt):
        study.run(ARMS[name], 0, 6, tmp_path / 'cut', **TINY)
    with counted_passes() as rest:
        assert study.run(ARMS[name], 0, 6, tmp_path / 'cut', **TINY) == whole
    assert 0 < len(rest) < len(passes)
    with counted_passes(at_most = 0):
        assert study.run(ARMS[name], 0, 6, tmp_path / 'cut', **TINY) == whole


@pytest.mark.parametrize('folder', ['equal_steps', 'equal_time'])
def test_kept_runs_are_of_arms_by_their_names_of_today(folder):
    kept = Path(__file__).parents[2] / 'benchmarks' / 'quality' / folder
    runs = {path.name for path in kept.glob('*-seed-*.json')}
    steps = {int(re.findall(r'of-(\d+)', name)[0]) for name in runs}
    known = {arm.path(kept, seed, count).with_suffix('.json').name for arm in ARMS.values() for seed in range(3) for count in steps}
    assert runs
    assert runs <= known
    assert json.loads((kept / 'seconds.json').read_text()).keys() <= ARMS.keys()


def test_all_arms_learn_from_the_same():
    one, three = study.training_batch(0, 5, 1), study.training_batch(0, 5, 3)
    torch.testing.assert_close(one.input_images, three.input_images)
    torch.testing.assert_close(one.input_rays, three.input_rays)
    torch.testing.assert_close(one.target_images[:, 0], three.target_images[:, 0])
    assert not torch.allclose(one.input_images, study.training_batch(1, 5, 1).input_images, atol = 0.01)
    assert not torch.allclose(one.input_images, study.training_batch(0, 6, 1).input_images, atol = 0.01)
    assert all(view.shape[1] == count for view, count in ((three.target_images, 3), (three.cameras.camera_to_world, 5)))


def test_an_arm_is_what_its_name_says():
    for arm in ARMS.values():
        if arm.network == 'ours':
            network = Network(arm, 32, Path(), **TINY)
            assert ('prope' in arm.name) == (network.model.camera_encoding == 'prope')
            assert ('sweep' in arm.name) == (network.model.num_depth_planes > 0)
            assert ('cacheable' in arm.name) != network.model.input_attends_target
            assert ('muon' in arm.name) == isinstance(optimizer_of(network, arm.config()), Muon)
        assert ('targets' in arm.name) == (arm.targets > 1)
        assert ('2e-3' in arm.name or 'muon' in arm.name) == (arm.config().learning_rate == 2e-3)


def test_what_is_said():
    def arm(seconds_a_step, **more):
        curve = [dict(step = step, model_psnr = 10. + step, model_ssim = 0.5) for step in (1, 2, 3)]
        return dict(dict(curve = curve, seconds_a_step = seconds_a_step, skipped = 0, parameters = 2_000_000), **more)

    said = study.table(dict(fast = [arm(2.)], slow = [arm(4., skipped = 3)]))
    assert '2.00   2.000      3  13.00 (13.00 to 13.00)   0.500 (0.500 to 0.500)' in said
    assert said.splitlines()[2].endswith(', 3 steps skipped')


def test_a_step_of_every_arm_takes_its_time(tmp_path):
    arms = [ARMS['paper'], ARMS['cacheable sweep prope, 3 targets, muon']]
    batches = study.training_batch(0, 0, 1), study.training_batch(0, 0, 3)
    found = study.seconds_a_step(arms, lambda arm: batches[arm.targets > 1], image_size = 32, seed_folder = tmp_path, **TINY)
    one, other = found.values()
    assert one > 0
    assert other > 0


def test_what_takes_equal_time_stays_so(tmp_path):
    times = iter((dict(a = 1., b = 2.), dict(a = 3., b = 6., c = 9.)))
    asked = []

    def measure(names):
        asked.append(names)
        return next(times)

    path = tmp_path / 'seconds.json'
    assert study.remembered(path, ['b', 'a'], measure) == dict(a = 1., b = 2.)
    assert study.remembered(path, ['b'], measure) == dict(b = 2.)
    assert study.remembered(path, ['c'], measure) == dict(c = 3.)    # in turns with the others, which take three times as long now
    assert study.remembered(path, ['b'], measure) == dict(b = 2.)
    assert asked == [['a', 'b'], ['a', 'b', 'c']]


def test_arms_take_the_same_steps_or_the_same_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, 'seconds_a_step', lambda arms, *_, **__: {arm.name: 2. if 'sweep' in arm.name else 1. for arm in arms})
    monkeypatch.setattr(study, 'run', partial(study.run, **TINY))
    for more, steps in (([], (6, 6)), (['--equal-time'], (6, 3))):
        out = tmp_path / f'{steps}'
        monkeypatch.setattr(sys, 'argv', ['study.py', str(out), '--arms', 'paper', 'sweep prope, muon', '--seeds', '0', '--steps', '6', *more])
        study.main()
        assert [path.name for path in sorted(out.glob('*-of-*'))] == [f'paper-seed-0-of-{steps[0]}.json', f'sweep-prope-muon-seed-0-of-{steps[1]}.json']
        assert (out / 'curves.png').stat().st_size > 0
        assert capsys.readouterr().out.count(' (') == 4    # two arms' PSNR and SSIM, of one seed each


# on photos

@pytest.fixture
def sets(tmp_path, monkeypatch):
    for name, value in dict(IMAGE_SIZE = 16, BATCH_SIZE = 4, VALIDATIONS = 2).items():
        monkeypatch.setattr(photos, name, value)
    for seed, views in ((1, 9), (2, 16)):
        write_transforms(synthetic_scene(seed, num_views = views, image_size = 16), tmp_path / 'sets' / f'set{seed}')
    return photos.Photos(tmp_path / 'sets')


def test_all_sets_are_one_pool_of_which_held_out_views_are_no_part(sets):
    assert {name: len(batch.names) for name, batch in sets.held_out.items()} == {'set1': 2, 'set2': 2}
    held_out = {image.numpy().tobytes() for batch in sets.held_out.values() for image in batch.target_images[:, 0]}
    seen = {image.numpy().tobytes() for step in range(20) for image in sets.training_batch(0, step).images.flatten(0, 1)}
    assert len(seen) > 16    # of both sets, which have 7 and 14
    assert not seen & held_out
    assert torch.equal(sets.training_batch(0, 3).target_images, sets.training_batch(0, 3).target_images)
    assert not torch.allclose(sets.training_batch(0, 3).target_images, sets.training_batch(1, 3).target_images)


def test_photos_resume_and_are_evaluated_set_by_set(sets, tmp_path):
    arm = ARMS['cacheable sweep prope, muon']
    with counted_passes() as passes:
        found = photos.run(arm, 0, 4, sets, tmp_path, **TINY)
    assert (tmp_path / 'cacheable-sweep-prope-muon-seed-0-of-4.png').stat().st_size > 0
    with counted_passes() as again:
        assert photos.run(arm, 0, 4, sets, tmp_path, **TINY) == found
    assert len(again) < len(passes) / 2    # it is there already, and only drawn
    assert found.psnr['all'] == pytest.approx((found.psnr['set1'] + found.psnr['set2']) / 2)
    said = photos.table({'one': found})
    assert all(word in said for word in ('set1', 'set2', 'all', f'{found.psnr["set2"]:.2f} /{found.ssim["set2"]:.3f}'))


def test_all_views_count_alike():
    both = photos.found({'few': Score(torch.tensor([10.]), torch.tensor([0.])), 'many': Score(torch.tensor([20., 20., 20.]), torch.tensor([1., 1., 1.]))})
    assert both.psnr == {'few': 10., 'many': 20., 'all': 17.5}
    assert both.ssim['all'] == 0.75
