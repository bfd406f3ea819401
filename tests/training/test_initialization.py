"""Weights to start from, and the network that comes with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import tiny_model

from lvsm_pytorch import LVSM
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.training.initialization import NETWORK, with_network_of_weights
from lvsm_pytorch.training.loop import train


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(1)
    model = tiny_model(camera_encoding = 'prope')
    model.save_pretrained(tmp_path / 'weights')
    return model, str(tmp_path / 'weights')


def config_for(path, tmp_path, **changes):
    return replace(TrainConfig(), **{**dict(
        init_from = path, out = tmp_path / 'run', image_size = 16, num_inputs = 1, num_targets = 1, steps = 1, batch_size = 1, optimizer = 'adamw', learning_rate = 1e-12, device = 'cpu', tensorboard = False,
    ), **changes})


def test_the_network_is_that_of_the_weights(weights, tmp_path):
    model, path = weights
    config = with_network_of_weights(config_for(path, tmp_path))
    assert {name: getattr(config, name) for name in NETWORK} == {name: model.config[name] for name in NETWORK}


def test_training_starts_from_them(weights, tmp_path):
    model, path = weights
    train(config_for(path, tmp_path))
    trained = LVSM.from_pretrained(tmp_path / 'run')
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol = 0, atol = 1e-6)


def test_a_contradiction_is_named(weights, tmp_path):
    _, path = weights
    with pytest.raises(ValueError, match = 'depth: must be .* as the weights of init_from'):
        with_network_of_weights(config_for(path, tmp_path, depth = 7))


def test_the_mode_and_the_image_size_may_differ(weights, tmp_path):
    _, path = weights
    config = with_network_of_weights(config_for(path, tmp_path, input_attends_target = False, image_size = 24))
    assert not config.input_attends_target
    assert config.image_size == 24


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match = 'folder_or_hub_id'):
        with_network_of_weights(config_for(str(tmp_path / 'nothing'), tmp_path))
