"""A moving average of weights, by torch.optim.swa_utils, which is short at first, so that random weights are soon forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of a model, of which `update_parameters` makes an exponential moving average.

    Args:
        model: Copied as it is.
        decay: Of the average, from 0 up to below 1; early updates have less (`decay_after`).
    """
    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        share = 1 - decay_after(int(num_averaged), decay)

        for average, weight in zip(averages, weights, strict = True):
            average.lerp_(weight, share)

    return AveragedModel(model, multi_avg_fn = update)


def decay_after(updates: int, decay: float) -> float:
    """1 - (1 + n)^(-2/3) for the n-th update, up to `decay`: the warm-up of ema-pytorch and of diffusers' EMAModel."""
    return min(decay, 1 - (1 + updates) ** (-2 / 3))
