"""Options of a run beside the usual ones: shapes of images, flags of the network, another objective, samples of one's own."""

from __future__ import annotations

import pytest
import torch
from conftest import PAPER

from lvsm_pytorch import LVSM
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.data import Batch, Source, SyntheticSource, WorldSource, synthetic_scene, synthetic_scenes, write_transforms
from lvsm_pytorch.training.checkpoint import Checkpoints
from lvsm_pytorch.training.logging import read_metrics
from lvsm_pytorch.training.loop import train
from lvsm_pytorch.training.objective import arguments_of
from lvsm_pytorch.training.runs import CHECKPOINTS, model_of, source_of

TINY = dict(**PAPER, image_size = 16, dim = 32, depth = 1, dim_head = 16, steps = 2, batch_size = 2, learning_rate = 1e-3, tensorboard = False, device = 'cpu')


# images that are not square

def test_images_need_not_be_square(tmp_path):
    write_transforms(synthetic_scene(1, num_views = 8, image_size = 24), tmp_path / 'photos')
    train(TrainConfig(data = tmp_path / 'photos', out = tmp_path / 'run', **{**TINY, 'image_size': (16, 24)}))
    model = LVSM.from_pretrained(tmp_path / 'run')
    assert model.trained_for.image_size == (16, 24)
    assert model.max_image_size == 24
    assert source_of(TrainConfig(data = tmp_path / 'photos', image_size = (16, 24))).sample(0).images.shape == (1, 3, 3, 16, 24)


@pytest.mark.parametrize('kind', [SyntheticSource, WorldSource])
def test_built_in_scenes_are_cut_from_squares(kind):
    options = dict(num_inputs = 1, num_targets = 1)
    square, wide = (kind(image_size = size, **options).sample(0) for size in (16, (8, 16)))
    assert wide.images.shape == (1, 2, 3, 8, 16)
    torch.testing.assert_close(wide.input_rays, square.input_rays[..., 4:12, :], rtol = 1e-4, atol = 1e-5)
    torch.testing.assert_close(wide.images, square.images[..., 4:12, :])


# flags of the network

def test_flags_of_the_network_are_its_own():
    model = model_of(TrainConfig(**{**TINY, 'depth': 2}, heads = 1, dropout_input_ray_prob = 0.3, decoder_kwargs = dict(ff_mult = 2)))
    assert model.config['decoder_kwargs'] == dict(ff_mult = 2)
    assert model.config['heads'] == 1
    assert model.dropout_input_ray_prob == 0.3
    plain = model_of(TrainConfig(**{**TINY, 'depth': 2}, heads = 1))
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize('changes, has_depth_loss', [(dict(), False), (dict(plane_sweep = 'features', num_depth_planes = 8), True), (dict(plane_sweep = 'features', num_depth_planes = 8, depth_loss_weight = 0.), False)])
def test_any_network_trains_on_worlds_and_those_with_a_depth_loss_get_distances(changes, has_depth_loss):
    config = TrainConfig(**{**TINY, **changes, 'synthetic': 'worlds', 'pose_frame': 'inputs'})
    source = source_of(config)
    arguments = arguments_of(source.training_batch(0, 2), config)
    assert (arguments['target_distances'] is not None) == has_depth_loss
    assert model_of(config, source)(**arguments).isfinite()


# masked autoencoding

@pytest.mark.parametrize('on_photos', [False, True])
def test_masked_autoencoding_learns_what_is_masked(tmp_path, on_photos):
    write_transforms(synthetic_scene(1, num_views = 8, image_size = 16), tmp_path / 'photos')
    config = TrainConfig(data = tmp_path / 'photos' if on_photos else None, out = tmp_path / 'run', objective = 'mae', **{**TINY, 'steps': 30, 'batch_size': 4}, log_every = 5)
    train(config)
    records = read_metrics(config.out)
    assert records[-1]['loss'] < 0.8 * records[0]['loss']
    assert {'model_psnr', 'blur_psnr'} <= set(records[-1])
    _, state = Checkpoints(config.out / CHECKPOINTS, 1).last()
    assert 'to_rays.weight' in state['model']

    # the model of the run is the LVSM alone, with the weights that were trained

    saved = LVSM.from_pretrained(config.out).state_dict()
    assert not any('to_rays' in name for name in saved)
    assert all(torch.equal(weight, state['model'][f'lvsm.{name}']) for name, weight in saved.items())


def test_masked_autoencoding_resumes_exactly(tmp_path):
    whole, parts = (TrainConfig(out = tmp_path / name, objective = 'mae', **{**TINY, 'steps': 4}) for name in ('whole', 'parts'))
    train(whole)
    train(TrainConfig(out = tmp_path / 'parts', objective = 'mae', save_every = 2, warmup_steps = 0, **TINY))
    before = Checkpoints(parts.out / CHECKPOINTS, 1).last()[1]['random'][0]['cpu']
    train(parts, resume = True)
    assert not torch.equal(before, Checkpoints(parts.out / CHECKPOINTS, 1).last()[1]['random'][0]['cpu'])    # masks are drawn by it
    assert Checkpoints(parts.out / CHECKPOINTS, 1).last()[0].step == 4


def test_masked_autoencoding_needs_pixels_of_tokens_alone():
    with pytest.raises(ValueError, match = 'num_depth_planes: must be 0 with objective mae'):
        TrainConfig(objective = 'mae').check()


# samples of one's own

class Pairs(Source):
    """Two views of a scene, of which one is the input."""
    description = 'pairs of views'

    def __init__(self, **options):
        super().__init__(num_inputs = 1, num_targets = 1, **options)
        self.drawn = []

    def pair(self, seed):
        images, cameras = synthetic_scenes([seed], num_views = 2, image_size = 16)
        return Batch(images, cameras, [f'scene {seed}'], 1)

    def sample(self, number):
        self.drawn.append(number)
        return self.pair(100 + number)

    def held_out(self):
        return self.collate([self.pair(seed) for seed in range(3)])


def test_samples_of_ones_own(tmp_path, capsys):
    source = Pairs(frame = 'inputs')
    config = TrainConfig(out = tmp_path / 'run', num_inputs = 1, **TINY)
    found = train(config, source = source)
    assert source.drawn == [0, 1, 2, 3]
    assert 'pairs of views' in capsys.readouterr().out
    assert found['model_psnr'] == read_metrics(config.out)[-1]['model_psnr']
    assert LVSM.from_pretrained(config.out).trained_for[:3] == ('inputs', (16, 16), 1)

    train(TrainConfig(**{**vars(config), 'steps': 3}), source = source, resume = True)
    assert source.drawn == [0, 1, 2, 3, 4, 5]


def test_samples_of_ones_own_fit_the_config(tmp_path):
    with pytest.raises(ValueError, match = 'source: must have as many input views as the config, num_inputs 2, but got 1'):
        train(TrainConfig(out = tmp_path / 'run', **TINY), source = Pairs())
    with pytest.raises(ValueError, match = 'data: must be left out with a source of your own'):
        train(TrainConfig(out = tmp_path / 'other', data = tmp_path, num_inputs = 1, **TINY), source = Pairs())
