"""Exponential moving average (EMA) of weights, by torch.optim.swa_utils, with a warmup so that random initial weights decay quickly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Returns a copy of a model that `update_parameters` turns into an exponential moving average.

    Args:
        model: Model to average.
        decay: Decay of the average in [0, 1). Early updates use less (`decay_after`).
    """
    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        share = 1 - decay_after(int(num_averaged), decay)

        for average, weight in zip(averages, weights, strict = True):
            average.lerp_(weight, share)

    return AveragedModel(model, multi_avg_fn = update)


def decay_after(updates: int, decay: float) -> float:
    """Decay of the n-th update: 1 - (1 + n)^(-2/3), at most `decay`. The warmup of ema-pytorch and of diffusers' EMAModel."""
    return min(decay, 1 - (1 + updates) ** (-2 / 3))
