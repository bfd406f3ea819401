"""The moving average of weights."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_model
from torch import nn

from lvsm_pytorch.training.average import averaged, decay_after


def test_the_average_is_exponential():
    """Of weights w after each update: a <- d a + (1 - d) w, beginning with the first w."""
    model, decay = nn.Linear(3, 2), 0.4
    average, expected = averaged(model, decay), None

    for update in range(6):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3))
        average.update_parameters(model)
        expected = model.weight.detach().clone() if expected is None else torch.lerp(expected, model.weight.detach(), 1 - decay_after(update, decay))

    assert decay_after(5, decay) == decay
    assert (average.module.weight - expected).abs().max() < 1e-6


def test_early_updates_forget_random_weights():
    assert decay_after(0, 0.9999) == 0
    assert decay_after(7, 0.9999) == pytest.approx(0.75)
    decays = [decay_after(n, 0.999) for n in (0, 10, 100, 1000, 100_000, 1_000_000)]
    assert decays == sorted(decays)
    assert decays[-1] == decays[-2]    # up to the decay, and from there on that
    assert 1 - decays[-1] == pytest.approx(1e-3)


def test_the_average_is_a_model_of_its_own():
    model = tiny_model()
    average = averaged(model, 0.9)
    average.update_parameters(model)
    before = model.to_pixels.weight.detach().clone()
    with torch.no_grad():
        model.to_pixels.weight.add_(1.)
    assert torch.equal(average.module.to_pixels.weight, before)
    assert set(average.module.state_dict()) == set(model.state_dict())
    again = averaged(tiny_model(), 0.9)
    again.load_state_dict(average.state_dict())
    assert int(again.n_averaged) == 1
    assert torch.equal(again.module.to_pixels.weight, before)
