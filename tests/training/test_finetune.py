"""Training on own photos from weights whose unit goes by how far the scene is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import tiny_model
from safetensors.torch import load_file

from lvsm_pytorch import LVSM
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import load_config
from lvsm_pytorch.data import SceneSource, cameras_of, read_scene, synthetic_scene, write_transforms
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.scene_scale import UNIT_OF_NEAR, estimate_depth_range
from lvsm_pytorch.inference.pipeline import encode_photos
from lvsm_pytorch.lvsm.pretrained import TrainedFor
from lvsm_pytorch.training.initialization import with_network_of_weights
from lvsm_pytorch.training.logging import read_metrics
from lvsm_pytorch.training.loop import train
from lvsm_pytorch.training.runs import source_of

SIZE = 32


@pytest.fixture(scope = 'module')
def photos(tmp_path_factory):
    """Twelve views of solids, in a world whose unit means nothing."""
    folder = tmp_path_factory.mktemp('data') / 'photos'
    scene = synthetic_scene(3, num_views = 12, image_size = SIZE)
    far = torch.tensor([[1., 1., 1., 70.]] * 3 + [[1.] * 4])
    write_transforms(replace(scene, views = tuple(replace(view, camera_to_world = view.camera_to_world * far) for view in scene.views)), folder)
    return folder


@pytest.fixture(scope = 'module')
def weights(tmp_path_factory):
    torch.manual_seed(1)
    model = tiny_model(camera_encoding = 'prope', num_depth_planes = 8, plane_sweep = 'features', input_attends_target = False)
    model.trained_for = TrainedFor('inputs', (SIZE, SIZE), 2, scale = 'depth')
    folder = tmp_path_factory.mktemp('models') / 'weights'
    model.save_pretrained(folder)
    return str(folder)


def config_for(weights, photos, out, **changes):
    return replace(TrainConfig(), **{**dict(
        init_from = weights, data = photos, out = out, image_size = SIZE, steps = 2, batch_size = 1, optimizer = 'adamw', evaluate_every = 1, save_best = True, tensorboard = False, device = 'cpu',
    ), **changes})


def test_weights_say_by_what_the_unit_goes(weights, photos, tmp_path):
    config = with_network_of_weights(config_for(weights, photos, tmp_path))
    assert (config.pose_frame, config.scale, config.plane_sweep) == ('inputs', 'depth', 'features')
    assert with_network_of_weights(config_for(weights, photos, tmp_path, scale = 'cameras')).scale == 'cameras'
    source = source_of(config)
    assert isinstance(source, SceneSource)
    assert (source.scale, source.unit) == ('depth', None)


@pytest.mark.parametrize('plane_sweep, scale', [('colors', 'cameras'), ('features', 'depth')])
def test_from_random_weights_it_goes_by_the_plane_sweep(photos, plane_sweep, scale):
    source = source_of(TrainConfig(data = photos, image_size = SIZE, plane_sweep = plane_sweep))
    assert source.scale == scale
    assert (source.sample(0).depth_range is None) == (scale == 'cameras')


def test_samples_are_scaled_as_photos_that_are_rendered(weights, photos, tmp_path):
    """One rule in training and in use: the model renders the held-out views of the source exactly as from photos and cameras."""
    model = LVSM.from_pretrained(weights)
    source = source_of(with_network_of_weights(config_for(weights, photos, tmp_path)))
    batch = source.held_out()
    views = {view.name: view for view in read_scene(photos).views}

    with torch.no_grad():
        rendered = model(**batch.arguments())

    for place, name in enumerate(batch.names):
        inputs = [views[source.names[number]] for number in source.nearest(source.names.index(name))]
        encoded = encode_photos(model, [view.load() for view in inputs], cameras_of(inputs))
        target = next(encoded.render(cameras_of([views[name]]), (SIZE, SIZE)))
        torch.testing.assert_close(rendered[place], target, rtol = 0, atol = 5e-3)


def test_the_unit_goes_by_the_inputs_of_each_sample(photos):
    source = SceneSource(read_scene(photos), num_inputs = 2, num_targets = 1, image_size = SIZE, frame = 'inputs', scale = 'depth')
    units = set()

    for number in range(6):
        sample = source.sample(number)
        again = estimate_depth_range(sample.input_images[0], sample.cameras[0, :2])
        assert again.near == pytest.approx(UNIT_OF_NEAR, rel = 1e-3)
        torch.testing.assert_close(sample.depth_range[0], torch.tensor(again.with_margin()), rtol = 1e-3, atol = 0)
        units.add(round(float((sample.cameras.camera_to_world[0, 0, :3, 3] - sample.cameras.camera_to_world[0, 2, :3, 3]).norm()), 4))

    assert len(units) > 1
    assert 0 < len(source.scales) <= 6


def test_a_scene_of_a_dataset_has_the_same_unit_in_any_world(photos, tmp_path):
    from lvsm_pytorch.data import DatasetSource, split_dataset

    scenes = [read_scene(photos), synthetic_scene(4, num_views = 6, image_size = SIZE), synthetic_scene(5, num_views = 6, image_size = SIZE)]
    batches = []

    for factor in (1., 1000.):
        for index, scene in enumerate(scenes):
            scale = torch.tensor([[1., 1., 1., factor]] * 3 + [[1.] * 4])
            write_transforms(replace(scene, views = tuple(replace(view, camera_to_world = view.camera_to_world * scale) for view in scene.views)), tmp_path / str(factor) / str(index))

        source = DatasetSource(split_dataset(tmp_path / str(factor)), num_inputs = 2, num_targets = 1, image_size = SIZE, scale = 'depth')
        batches.append(source.training_batch(0, 2))

    a, b = batches
    torch.testing.assert_close(a.depth_range, b.depth_range, rtol = 1e-3, atol = 0)
    torch.testing.assert_close(a.cameras.camera_to_world, b.cameras.camera_to_world, rtol = 0, atol = 1e-3)


def test_photos_that_do_not_tell_are_scaled_by_their_cameras():
    scene = synthetic_scene(3, num_views = 12, image_size = SIZE)
    blank = replace(scene, views = tuple(replace(view, load = lambda: torch.full((3, SIZE, SIZE), 0.5)) for view in scene.views))
    source = SceneSource(blank, num_inputs = 2, num_targets = 1, image_size = SIZE, frame = 'inputs', scale = 'depth')
    batch = source.training_batch(0, 2)
    assert batch.depth_range.tolist() == [[0.5, float('inf')]] * 2
    assert batch.input_images.shape == (2, 2, 3, SIZE, SIZE)
    offset = batch.cameras.camera_to_world[0, :2, :3, 3].abs().max()
    assert float(offset) == pytest.approx(1 / 1.35, rel = 1e-3)


def test_validation_before_and_after_stand_beside_each_other(weights, photos, tmp_path, capsys):
    found = train(config_for(weights, photos, tmp_path / 'run', learning_rate = 1e-4))
    records = read_metrics(tmp_path / 'run')
    assert [record['step'] for record in records] == [0, 1, 2]
    assert 'loss' not in records[0]
    assert found['initial_psnr'] == records[0]['model_psnr']
    assert found['model_psnr'] == max(record['model_psnr'] for record in records)
    printed = capsys.readouterr().out
    assert f'{found["initial_psnr"]:.2f} dB' in printed
    assert 'model before training' in printed


@pytest.fixture
def getting_worse(monkeypatch):
    """Each validation has 1 dB less than the one before, whatever was rendered; weights change all the same."""
    psnrs = iter(range(30, 0, -1))
    monkeypatch.setattr('lvsm_pytorch.training.validation.figures', lambda **_: dict(model_psnr = float(next(psnrs)), model_ssim = 0.5))
    return dict(learning_rate = 1e-3, warmup_steps = 0, skip_grad_norm = 1e9)


def has_weights_of(run, weights):
    before, after = LVSM.from_pretrained(weights).state_dict(), load_file(run / 'model.safetensors')
    return all(torch.equal(before[name], after[name]) for name in before)


def test_it_never_ends_worse_than_it_began(weights, photos, tmp_path, getting_worse):
    config = config_for(weights, photos, tmp_path / 'run', **getting_worse)
    found = train(config)
    assert found == dict(model_psnr = 30., model_ssim = 0.5, initial_psnr = 30., initial_ssim = 0.5)
    assert [record['model_psnr'] for record in read_metrics(config.out)] == [30., 29., 28.]
    assert has_weights_of(config.out, weights)

    # also where the run is continued, or asked again

    assert train(replace(config, steps = 3), resume = True) == found
    assert train(replace(config, steps = 3), resume = True) == found
    assert [record['step'] for record in read_metrics(config.out)] == [0, 1, 2, 3]
    assert has_weights_of(config.out, weights)


def test_the_latest_model_is_saved_without_it(weights, photos, tmp_path, getting_worse):
    config = config_for(weights, photos, tmp_path / 'run', save_best = False, **getting_worse)
    assert train(config)['model_psnr'] == 28.
    assert not has_weights_of(config.out, weights)


def test_the_number_of_inputs_of_photos_is_drawn_for_each_step(photos):
    source = source_of(TrainConfig(data = photos, image_size = SIZE, random_num_inputs = (1, 4), batch_size = 2, num_targets = 2))
    counts = [source.sample(number).num_inputs for number in range(20)]
    assert counts[::2] == counts[1::2]
    assert set(counts) == {1, 2, 3, 4}
    assert source.training_batch(1, 2).target_images.shape == (2, 2, 3, SIZE, SIZE)
    assert source.held_out().num_inputs == 2

    with pytest.raises(ValueError, match = 'num_inputs: must be below the number of training views'):
        source_of(TrainConfig(data = photos, image_size = SIZE, random_num_inputs = (1, 40)))


def test_the_preset_starts_from_the_packaged_model():
    config = load_config('finetune')
    assert config.init_from == 'photos-128'
    assert config.save_best
    assert with_network_of_weights(config).scale == 'depth'


def test_cameras_that_are_scaled_twice_are_scaled_once(photos):
    """What is kept of a set of inputs does not depend on which targets came with it."""
    source = SceneSource(read_scene(photos), num_inputs = 2, num_targets = 1, image_size = SIZE, frame = 'inputs', scale = 'depth')
    first, second = source.views([0, 1, 4], 2), source.views([0, 1, 7], 2)
    assert len(source.scales) == 1
    assert torch.equal(first.cameras.camera_to_world[0, :2], second.cameras.camera_to_world[0, :2])
    assert isinstance(first.cameras, Cameras)
