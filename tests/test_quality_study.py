"""The recipe study goes on where it was cut off, and gives all arms the same to learn from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks' / 'quality'))

import study
from arms import ARMS, Network

from lvsm_pytorch.config import TrainConfig
from lvsm_pytorch.muon import Muon
from lvsm_pytorch.recipe import optimizer_of

TINY = dict(dim = 32, depth = 1, dim_head = 16, patch_size = 8)


@pytest.fixture(autouse = True)
def small(monkeypatch):
    for name, value in dict(POOL = 8, HELD_OUT = 4, BATCH_SIZE = 4, LOOKS = 3).items():
        monkeypatch.setattr(study, name, value)
    study.held_out.cache_clear()
    yield
    study.held_out.cache_clear()


@pytest.mark.parametrize('name', ['paper', 'prope, 2e-3', 'cacheable points, 3 targets, muon'])
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
    for _ in range(2):
        assert study.run(ARMS[name], 0, 6, tmp_path / 'cut', **TINY) == whole


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
            assert next((name for name in ('prope', 'points') if name in arm.name), 'plucker') == network.model.camera_encoding
            assert ('cacheable' in arm.name) != network.model.input_attends_target
            assert ('muon' in arm.name) == isinstance(optimizer_of(network, TrainConfig(**arm.recipe)), Muon)
        assert ('targets' in arm.name) == (arm.targets > 1)
        assert ('2e-3' in arm.name or 'muon' in arm.name) == (TrainConfig(**arm.recipe).learning_rate == 2e-3)


def test_what_is_reached_and_said():
    def arm(seconds_a_step, **more):
        curve = [dict(step = step, model_psnr = 10. + step, model_ssim = 0.5) for step in (1, 2, 3)]
        return dict(dict(curve = curve, seconds_a_step = seconds_a_step, skipped = 0, parameters = 2_000_000), **more)

    assert [study.reached(arm(2.), seconds) for seconds in (2., 5.9, 100.)] == [11., 12., 13.]
    assert study.reached(arm(2.), 1.) != study.reached(arm(2.), 1.)
    said = study.table(dict(fast = [arm(2.)], slow = [arm(4., skipped = 3)]))
    assert '2.00   2.000  13.00 (13.00 to 13.00)' in said
    assert said.splitlines()[2].endswith('11.00 (11.00 to 11.00), 3 steps skipped')


def test_a_step_of_every_arm_takes_its_time(tmp_path):
    arms = [ARMS['paper'], ARMS['cacheable points, 3 targets, muon']]
    batches = study.training_batch(0, 0, 1), study.training_batch(0, 0, 3)
    found = study.seconds_a_step(arms, lambda arm: batches[arm.targets > 1], image_size = 32, seed_folder = tmp_path, **TINY)
    one, other = found.values()
    assert one > 0
    assert other > 0
