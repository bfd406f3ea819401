"""Optimizer, learning rate schedule, and rejection of steps with huge gradients."""

from __future__ import annotations

import math

import torch
from torch import nn

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.training.muon import Muon

MAX_WARMUP_STEPS = 2500


def optimizer_of(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The paper's AdamW with weight decay on matrices only; or Muon for the matrices of attention and feed-forward, and AdamW for the rest."""
    blocks: list[nn.Parameter] = []

    if config.optimizer == 'muon':
        blocks = [p for name, p in model.named_parameters() if 'transformer.' in name and p.ndim == 2]

    of_muon = set(blocks)
    others = [p for p in model.parameters() if p not in of_muon]
    matrices = [p for p in others if p.ndim > 1]
    vectors = [p for p in others if p.ndim <= 1]
    groups = [dict(params = matrices, weight_decay = config.weight_decay), dict(params = vectors, weight_decay = 0.)]
    rate, betas = config.learning_rate, (0.9, 0.95)

    if not blocks:
        return torch.optim.AdamW(groups, lr = rate, betas = betas)

    return Muon(blocks, groups, muon_lr = config.muon_learning_rate, weight_decay = config.weight_decay, lr = rate, betas = betas)


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, config: TrainConfig) -> None:
    """Sets the learning rate of a step. The rates of Muon and AdamW follow the same schedule."""
    rate = learning_rate(step, config)

    for group in optimizer.param_groups:
        group['lr'] = rate * config.muon_learning_rate / config.learning_rate if group.get('orthogonalize') else rate


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warmup, then cosine decay to 0. By default warmup takes 2500 steps, or a twentieth of the run if that is shorter."""
    warmup_steps = min(MAX_WARMUP_STEPS, config.steps // 20) if config.warmup_steps is None else config.warmup_steps

    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps

    done = (step - warmup_steps) / (config.steps - warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def is_step_accepted(gradient_norm: float, config: TrainConfig) -> bool:
    """Whether the gradient norm is finite and at most `skip_grad_norm`. Other steps are skipped, since they would damage the weights."""
    return math.isfinite(gradient_norm) and gradient_norm <= config.skip_grad_norm
