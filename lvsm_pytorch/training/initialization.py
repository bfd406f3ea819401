"""Initial weights of a run (`init_from`), and the network config that comes with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.errors import fail
from lvsm_pytorch.lvsm.model import LVSM

# config fields that weights depend on

NETWORK = ('patch_size', 'dim', 'depth', 'heads', 'dim_head', 'decoder_kwargs', 'camera_encoding', 'num_depth_planes', 'plane_sweep', 'near_plane')


def initial_model(init_from: str) -> LVSM:
    """Loads a run, a folder of `save_pretrained`, a packaged model, a model on the Hugging Face hub, or a checkpoint file of the LVSM authors.

    Raises:
        ValueError: If it is missing or none of these.
    """
    return LVSM.from_official(init_from) if Path(init_from).is_file() else LVSM.from_pretrained(init_from)


def with_network_of_weights(config: TrainConfig) -> TrainConfig:
    """Returns the config with the network fields of its initial weights. Fields at their defaults count as unset.

    The pose frame of the inputs and the scale rule by depth are also taken over from the weights, unless the config sets them.

    Raises:
        ValueError: If a network field is set to another value.
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
