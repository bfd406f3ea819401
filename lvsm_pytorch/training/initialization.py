"""Weights to start from, and the network that comes with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.errors import fail
from lvsm_pytorch.lvsm.model import LVSM

# what weights are made for

NETWORK = ('patch_size', 'dim', 'depth', 'heads', 'dim_head', 'decoder_kwargs', 'camera_encoding', 'num_depth_planes', 'plane_sweep', 'near_plane')


def initial_model(init_from: str) -> LVSM:
    """The model of a run, of a folder that `save_pretrained` wrote, of the library, of the Hugging Face hub, or of a checkpoint of the LVSM authors, which is a file.

    Raises:
        ValueError: For what is missing or is none of these.
    """
    return LVSM.from_official(init_from) if Path(init_from).is_file() else LVSM.from_pretrained(init_from)


def with_network_of_weights(config: TrainConfig) -> TrainConfig:
    """The config with the network of its initial weights, where there are any: fields that are as by default say nothing.

    Weights that were trained in the frame of their inputs stay in it, and those whose unit goes by depth keep that rule, unless the config says otherwise.

    Raises:
        ValueError: For a field of the network that is set otherwise.
    """
    if config.init_from is None:
        return config

    model, default = initial_model(config.init_from), TrainConfig()
    network, known = model.config, model.trained_for

    for name in NETWORK:
        given = getattr(config, name)

        if given not in (getattr(default, name), network[name]):
            fail(name, f'must be {network[name]!r}, as the weights of init_from = {config.init_from!r} have it, or be left out', given, 'Image size, number of views and input_attends_target may differ.')

    if known is not None and known.pose_frame == 'inputs':
        config = replace(config, pose_frame = config.pose_frame or 'inputs', scale = config.scale or (known.scale if known.scale == 'depth' else None))

    return replace(config, **{name: network[name] for name in NETWORK})
