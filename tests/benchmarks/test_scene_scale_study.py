"""The study of the estimated unit: its means, and a set that tells no unit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_model

from lvsm_pytorch.data import Scene, synthetic_scene

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

import scene_scale


def test_means_are_over_sets_and_each_row_has_its_best():
    rows = torch.arange(7.).expand(2, 7)
    found = dict(many = torch.cat((rows, rows.flip(1))), one = torch.zeros(1, 7), none = torch.zeros(0, 7))
    summary = scene_scale.summary(found, dict(estimate = [1., 1.], encode_photos = [3.]))
    assert summary['estimated'] == pytest.approx(1.5)
    assert summary['best_factor_of_all'] == pytest.approx(1.5)
    assert summary['best_factor_of_each_view'] == pytest.approx(3.)
    assert summary['estimate_in_encodings'] == pytest.approx(0.5)
    assert set(summary['sets']) == {'many', 'one'}


def test_views_are_rendered_once_for_each_factor_and_skipped_where_photos_tell_no_unit():
    model = tiny_model(num_depth_planes = 4, input_attends_target = False, camera_encoding = 'prope').eval()
    scene, seconds = synthetic_scene(3, num_views = 9, image_size = 32), {}
    rows = scene_scale.psnr_of_factors(model, scene, 32, 2, None, seconds)
    assert rows.shape == (len(rows), len(scene_scale.FACTORS))
    assert rows.isfinite().all()
    assert len(seconds['estimate']) == 2
    assert len(seconds['encode_photos']) == len(rows) * len(scene_scale.FACTORS)

    alone = Scene(scene.name, [scene.views[0], *[scene.views[1]] * 3])
    assert len(scene_scale.psnr_of_factors(model, alone, 32, 2, None, {})) == 0
