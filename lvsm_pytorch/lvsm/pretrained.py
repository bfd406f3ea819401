"""Models on disk: a folder with `config.json` and `model.safetensors`, as huggingface_hub has them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_json, write_whole
from lvsm_pytorch.packaged import folder_of, packaged_models

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.model import LVSM

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'

FORMAT_VERSION = 1


class TrainedFor(NamedTuple):
    """What weights have learnt from, and may be no good far away from.

    pose_frame: how poses were normalised, in words.
    image_size: (height, width) in pixels. num_inputs: views that the model saw.
    unit: length of the world that became 1, where it was the same for all scenes; None where it was taken from their cameras.
    world: of a model of one scene, from the scene's world to that of the rays: rows of a similarity (4 4) for `geometry.move_poses`.
    """
    pose_frame: str
    image_size: tuple[int, int]
    num_inputs: int
    unit: float | None = None
    world: list[list[float]] | None = None


def save_pretrained(model: LVSM, folder: str | PathLike[str], weights: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None) -> None:
    """As `LVSM.save_pretrained`. weights: the model's, where it has but a part of them itself."""
    save_file = safetensors().save_file
    folder = Path(folder)
    config = dict(
        model_type = 'lvsm',
        format_version = FORMAT_VERSION,
        model = model.config,
        trained_for = None if model.trained_for is None else model.trained_for._asdict(),
    )

    try:
        text = json.dumps(config, indent = 2)
    except TypeError as error:
        raise ValueError(f'decoder_kwargs: must be plain values to be saved, but got {model.decoder_kwargs}: {error}. Save model.state_dict() yourself.') from error

    folder.mkdir(parents = True, exist_ok = True)
    weights = {name: tensor.detach().to('cpu', dtype).contiguous() for name, tensor in (model.state_dict() if weights is None else weights).items()}
    write_whole(folder / WEIGHTS, lambda temporary: save_file(weights, temporary, metadata = dict(format = 'pt')))
    write_whole(folder / CONFIG, lambda temporary: temporary.write_text(text, encoding = 'utf-8'))


def read_pretrained(folder_or_hub_id: str | PathLike[str], **hub_options: Any) -> tuple[dict[str, Any], TrainedFor | None, dict[str, Tensor]]:
    """The arguments of `LVSM`, what the weights were trained for (or None), and the weights."""
    config_path, weights_path = find_pretrained(folder_or_hub_id, **hub_options)

    config = read_json(config_path)

    if not isinstance(config, dict) or config.get('model_type') != 'lvsm' or 'model' not in config:
        fail(str(config_path), 'must be the config of an LVSM that this library saved', str(config)[:80], 'Checkpoints of the paper\'s authors are read by LVSM.from_official.')

    if config.get('format_version', 0) > FORMAT_VERSION:
        fail(str(config_path), f'must have a format_version up to {FORMAT_VERSION}', config['format_version'], 'Update lvsm-pytorch.')

    try:
        weights = safetensors().load_file(weights_path)
    except Exception as error:  # safetensors has an error of its own for every way in which a file can be broken
        raise ValueError(f'{weights_path}: must be a safetensors file, but {error}. Save the model anew.') from error

    return config['model'], trained_for_of(config.get('trained_for')), weights


def trained_for_of(told: Any) -> TrainedFor | None:
    if told is None:
        return None

    if not isinstance(told, dict) or set(told) != set(TrainedFor._fields):
        fail('folder_or_hub_id', f'must have {TrainedFor._fields} in trained_for of its config.json', told, 'Save the model anew, or make trained_for null.')

    return TrainedFor(**{**told, 'image_size': tuple(told['image_size'])})


def find_pretrained(folder_or_hub_id: str | PathLike[str], **hub_options: Any) -> tuple[Path, Path]:
    """Paths of config and weights: in a folder where there is one, of a packaged model, or else from the Hugging Face hub."""
    folder = folder_of(folder_or_hub_id)

    if folder.is_dir():
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]

        if missing:
            fail('folder_or_hub_id', f'must have {CONFIG} and {WEIGHTS}', f'{folder} without {missing}', 'Save a model there with save_pretrained.')

        return folder / CONFIG, folder / WEIGHTS

    name = str(folder_or_hub_id)

    if not re.fullmatch(r'[\w.-]+/[\w.-]+', name):
        fail('folder_or_hub_id', f'must be a folder that is there, one of {packaged_models()}, or a hub id like `name/model`', repr(name), 'Save a model there with save_pretrained.')

    try:
        from huggingface_hub import hf_hub_download  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(f'{name} is no folder here, and models of the Hugging Face hub need huggingface_hub: pip install "lvsm-pytorch[hub]"') from error

    config, weights = (Path(hf_hub_download(name, file, **hub_options)) for file in (CONFIG, WEIGHTS))
    return config, weights


def load_strictly(model: LVSM, weights: Mapping[str, Tensor]) -> None:
    """Loads weights that fit to the last key and shape. Errors: ValueError that lists those that don't."""
    own = model.state_dict()
    missing, unknown = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    misshapen = [f'{name}: {tuple(weights[name].shape)} for {tuple(own[name].shape)}' for name in own if name in weights and weights[name].shape != own[name].shape]

    if missing or unknown or misshapen:
        fail('weights', 'must have the keys and shapes of the model that their config says', f'missing {missing}, unknown {unknown}, misshapen {misshapen}', 'Was one of the files replaced?')

    model.load_state_dict(weights, strict = True)


def safetensors():
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError('models on disk need safetensors: pip install "lvsm-pytorch[hub]"') from error

    return safetensors.torch


def num_inputs_of(model: LVSM) -> int:
    """Of a model that does not say what it was trained with, 2: the paper's."""
    return 2 if model.trained_for is None else model.trained_for.num_inputs


def default_size(model: LVSM) -> tuple[int, int]:
    return (model.max_image_size, model.max_image_size) if model.trained_for is None else model.trained_for.image_size


def hash_of_weights(model: LVSM) -> str:
    """Of names and values, wherever they came from."""
    digest = hashlib.sha256()

    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())

    return digest.hexdigest()
