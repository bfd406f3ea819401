"""Training objectives: novel view synthesis, or masked autoencoding."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.data import Batch
from lvsm_pytorch.lvsm.losses import LossBreakdown
from lvsm_pytorch.lvsm.mae import MAE, MAELossBreakdown
from lvsm_pytorch.lvsm.model import LVSM


def network_of(model: LVSM, config: TrainConfig) -> nn.Module:
    """The module that is trained: the model, or the model inside `MAE`."""
    return MAE(model) if config.objective == 'mae' else model


def model_in(network: nn.Module) -> LVSM:
    """The model inside a module of `network_of`."""
    return network.lvsm if isinstance(network, MAE) else cast(LVSM, network)


def arguments_of(batch: Batch, config: TrainConfig) -> dict[str, Any]:
    """Arguments of the module's forward pass for a batch."""
    if config.objective == 'mae':
        images, rays = (torch.cat(each, dim = 1) for each in ((batch.input_images, batch.target_images), (batch.input_rays, batch.target_rays)))
        return dict(images = images, rays = rays, cameras = batch.cameras)

    has_depth_loss = config.depth_loss_weight > 0 and config.plane_sweep == 'features' and config.num_depth_planes > 0
    distances = batch.target_distances if has_depth_loss else None
    return dict(batch.arguments(), target_images = batch.target_images, target_distances = distances)


def image_error(breakdown: LossBreakdown | MAELossBreakdown) -> Tensor:
    """Mean squared error of the images, a scalar."""
    return breakdown.image if isinstance(breakdown, MAELossBreakdown) else breakdown.mse
