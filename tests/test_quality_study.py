"""The recipe study goes on where it was cut off, and gives all arms the same to learn from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks' / 'quality'))

import study
from arms import ARMS, Network, Optimizers

TINY = dict(dim = 32, depth = 1, dim_head = 16, patch_size = 8)


@pytest.fixture(autouse = True)
def small(monkeypatch):
    for name, value in dict(POOL = 8, HELD_OUT = 4, BATCH_SIZE = 4, LOOKS = 3).items():
        monkeypatch.setattr(study, name, value)
    study.held_out.cache_clear()
    yield
    study.held_out.cache_clear()


def without_time(found):
    return [{name: value for name, value in point.items() if name != 'seconds'} for point in found['curve']]


@pytest.mark.parametrize('name', ['paper', 'cacheable prope, 3 targets, 2e-3', 'gated prope, torch init, muon'])
def test_a_run_that_is_cut_off_goes_on(name, tmp_path, monkeypatch):
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'cut').mkdir()
    whole = study.run(ARMS[name], 0, 6, tmp_path / 'whole', **TINY)
    assert [point['step'] for point in whole['curve']] == [2, 4, 6]

    look, looks = study.look, []

    def look_twice(network):
        looks.append(network)
        if len(looks) > 2:
            raise KeyboardInterrupt
        return look(network)

    monkeypatch.setattr(study, 'look', look_twice)
    with pytest.raises(KeyboardInterrupt):
        study.run(ARMS[name], 0, 6, tmp_path / 'cut', **TINY)
    monkeypatch.setattr(study, 'look', look)
    assert without_time(study.run(ARMS[name], 0, 6, tmp_path / 'cut', **TINY)) == without_time(whole)
    assert without_time(study.run(ARMS[name], 0, 6, tmp_path / 'cut', **TINY)) == without_time(whole)


def test_all_arms_learn_from_the_same():
    one, three = study.training_batch(0, 5, 1), study.training_batch(0, 5, 3)
    assert torch.equal(one.input_images, three.input_images)
    assert torch.allclose(one.input_rays, three.input_rays)
    assert torch.equal(one.target_images[:, 0], three.target_images[:, 0])
    assert not torch.equal(one.input_images, study.training_batch(1, 5, 1).input_images)
    assert not torch.equal(one.input_images, study.training_batch(0, 6, 1).input_images)
    assert all(view.shape[1] == count for view, count in ((three.target_images, 3), (three.cameras.camera_to_world, 5)))


def test_an_arm_is_what_its_name_says():
    for arm in ARMS.values():
        if arm.network == 'ours':
            network = Network(arm, 32, Path(), **TINY)
            assert ('prope' in arm.name) == (network.model.camera_encoding == 'prope')
            assert ('cacheable' in arm.name) != network.model.input_attends_target
            assert ('muon' in arm.name) == (len(Optimizers(network, arm).all) == 2)
        assert ('targets' in arm.name) == (arm.targets > 1)
        assert ('2e-3' in arm.name or 'muon' in arm.name) == (arm.learning_rate == 2e-3)


def test_what_is_reached_and_said():
    curve = [dict(step = step, seconds = 2. * step, model_psnr = 10. + step, model_ssim = 0.5) for step in (1, 2, 3)]
    assert [study.reached(curve, seconds) for seconds in (2., 5.9, 100.)] == [11., 12., 13.]
    assert study.reached(curve, 1.) != study.reached(curve, 1.)
    slow = [{**point, 'seconds': 2 * point['seconds']} for point in curve]
    said = study.table(dict(fast = [dict(curve = curve, skipped = 0, parameters = 2_000_000)], slow = [dict(curve = slow, skipped = 3, parameters = 1)]))
    assert '2.00   2.000  13.00 (13.00 to 13.00)' in said
    assert said.splitlines()[2].endswith('11.00 (11.00 to 11.00), 3 steps skipped')
