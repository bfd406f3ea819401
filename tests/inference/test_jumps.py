"""How much a film jumps where its photos change."""

from __future__ import annotations

import pytest
import torch

from lvsm_pytorch.inference.jumps import find_jumps


def film(jump: float, frames: int = 20, at: int = 10):
    """Gets brighter by a hundredth a frame, and once by `jump` more."""
    brightness = 0.01 * torch.arange(frames) + jump * (torch.arange(frames) >= at)
    return brightness.view(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def test_a_jump_is_measured_against_the_steps_around():
    inputs = ['a'] * 10 + ['b'] * 10
    found, = find_jumps(film(0.04), inputs)
    assert found.frame == 10
    assert found.difference == pytest.approx(0.05, rel = 1e-4)
    assert found.around == pytest.approx(0.01, rel = 1e-4)
    assert found.ratio == pytest.approx(5, rel = 1e-3)
    smooth, = find_jumps(film(0.), inputs)
    assert smooth.ratio == pytest.approx(1, rel = 1e-3)


def test_other_changes_do_not_count_as_steps_around():
    inputs = [number // 2 for number in range(20)]    # at every second step
    frames = torch.cumsum(torch.tensor([0.1 if number % 2 == 0 else 0.01 for number in range(20)]), 0).view(-1, 1, 1, 1)
    found = find_jumps(frames, inputs)
    assert len(found) == 9
    assert all(jump.ratio == pytest.approx(10, rel = 1e-3) for jump in found)


def test_nothing_changes():
    assert find_jumps(film(0.3), ['a'] * 20) == []
    assert find_jumps(film(0.3)[:1], ['a']) == []
