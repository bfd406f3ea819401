"""Models on disk: a folder with `config.json` and `model.safetensors`, as huggingface_hub has them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from lvsm_pytorch.errors import fail
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.files import read_json, write_whole
from lvsm_pytorch.lvsm.official import read_official
from lvsm_pytorch.lvsm.sizes import SIZES
from lvsm_pytorch.packaged import folder_of, packaged_models

if TYPE_CHECKING:
    from typing_extensions import Self

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'

FORMAT_VERSION = 1


class TrainedFor(NamedTuple):
    """What weights are trained for; far from it, views may be bad.

    Attributes:
        pose_frame: How poses were normalised: inputs or scene.
        image_size: (height, width) in pixels.
        num_inputs: Input views.
        unit: Length of the world that became 1, where it was the same for all scenes; None where it was taken from their cameras.
        scale: By what the unit is chosen: 'cameras', as `unit` says, or 'depth', by how far the scene is (`geometry.scene_scale`).
        world: Of a model of one scene, from the scene's world to that of the rays: rows of a similarity (4 4) for `geometry.move_poses`.
    """
    pose_frame: str
    image_size: tuple[int, int]
    num_inputs: int
    unit: float | None = None
    scale: str = 'cameras'
    world: list[list[float]] | None = None

    @property
    def takes_unit_of_set(self) -> bool:
        """Whether a set of photos keeps one unit, by all of its cameras: not where all scenes have one, nor where it goes by how far the scene is."""
        return self.pose_frame == 'inputs' and self.unit is None and self.scale == 'cameras'


class Pretrained(Module):
    """Models that are saved, read and named.

    Args:
        config: All arguments that it takes to make the same network, but the perceptual loss.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = config
        self.trained_for: TrainedFor | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    @classmethod
    def from_size(cls, name: str, **changes: Any) -> Self:
        """A new model of one of `SIZES`, with any argument changed.

        Raises:
            ValueError: For an unknown name.
        """
        if name not in SIZES:
            fail('name', f'must be one of {list(SIZES)}', repr(name), 'Or pass the sizes: LVSM(dim, ...).')

        return cls(**{**SIZES[name], **changes})

    def save_pretrained(self, folder: str | PathLike[str], *, dtype: torch.dtype | None = None) -> None:
        """Writes `config.json` and `model.safetensors` into a folder, each whole or not at all. Needs the extra `hub` or `train`.

        `trained_for`, where it is set, is written too. The perceptual loss is not.

        Args:
            dtype: Of the weights in the file, unchanged by default; `torch.float16` halves it. They are read back into float32.
        """
        save_pretrained(self, folder, dtype = dtype)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, commit_message: str = 'LVSM', revision: str | None = None, token: str | bool | None = None, dtype: torch.dtype | None = None,
    ) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face hub, into a repository that is made if need be. Needs the extra `hub` or `train`.

        huggingface_hub's own mixin would be a base class, and loaded with the library; this is the same call.

        Args:
            repo_id: As `name/model`.
            private: Of a new repository; left out, as the owner's settings are.
            commit_message: Of the upload.
            revision: Branch to upload to; left out, the main one.
            token: Of the hub; left out, that of `hf auth login`.
            dtype: Of the weights in the file, as in `save_pretrained`.

        Returns:
            Address of the upload.
        """
        api = hub('push_to_hub').HfApi(token = token)
        repo_id = api.create_repo(repo_id, private = private, exist_ok = True).repo_id

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype = dtype)
            return str(api.upload_folder(repo_id = repo_id, folder_path = folder, commit_message = commit_message, revision = revision))

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **changes: Any,
    ) -> Self:
        """A model that `save_pretrained` wrote, in eval mode. Weights must fit to the last key.

        Args:
            folder_or_hub_id: The folder, 'solids-128' for the small model that comes with the library (it is trained on built-in synthetic scenes), or a model of the Hugging Face hub
                (extra `hub`).
            dtype: Of the weights, float32 unless said.
            torch_dtype: The same, by its older name.
            device: Where the model is put, 'auto' for a GPU where there is one; the CPU unless said.
            revision: Of the hub, like what follows, as in `huggingface_hub.hf_hub_download`.
            token: Of the hub.
            cache_dir: Of the hub.
            force_download: Of the hub.
            local_files_only: Of the hub.
            changes: Other arguments of `LVSM` than those saved, such as a larger `max_image_size`: no weight depends on it.

        Raises:
            ValueError: For what is missing, broken, of a later format, or doesn't fit, listing the keys.
        """
        if dtype is not None and torch_dtype is not None:
            fail('torch_dtype', 'must be left out where dtype is given', torch_dtype, 'They are two names of one argument.')

        hub_options = dict(revision = revision, token = token, cache_dir = cache_dir, force_download = force_download, local_files_only = local_files_only)
        arguments, trained_for, weights = read_pretrained(folder_or_hub_id, **hub_options)
        model = cls(**{**arguments, **changes})
        load_strictly(model, weights)
        model.trained_for = trained_for
        model.to(dtype = dtype or torch_dtype, device = None if device is None else pick_device(str(device)))
        return model.eval()

    @classmethod
    def from_official(cls, checkpoint: str | PathLike[str] | Mapping[str, Any], *, max_image_size: int = 256) -> Self:
        """The network of a checkpoint of the paper's authors, in eval mode; `official.to_official` is its inverse.

        The authors publish their weights for non-commercial use.

        Args:
            checkpoint: a file, read without running any code in it, or its content, or the state dict in it. All sizes are taken from its tensors; entries under `loss_computer.` are
                passed over.
            max_image_size: Height and width that images have by default, in pixels.

        Raises:
            ValueError: As in `official.read_official`, which lists the keys that don't fit.
        """
        sizes, weights = read_official(checkpoint)
        model = cls(**dict(sizes, max_image_size = max_image_size))
        load_strictly(model, weights)
        return model.eval()


def save_pretrained(model: Pretrained, folder: str | PathLike[str], weights: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None) -> None:
    """As `LVSM.save_pretrained`.

    Args:
        weights: The model's, where it has but a part of them itself.
    """
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
        raise ValueError(f'decoder_kwargs: must be plain values to be saved, but got {model.config["decoder_kwargs"]}: {error}. Save model.state_dict() yourself.') from error

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


def trained_for_of(content: Any) -> TrainedFor | None:
    if content is None:
        return None

    if not isinstance(content, dict) or set(content) != set(TrainedFor._fields):
        fail('folder_or_hub_id', f'must have {TrainedFor._fields} in trained_for of its config.json', content, 'Save the model anew, or make trained_for null.')

    return TrainedFor(**{**content, 'image_size': tuple(content['image_size'])})


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

    download = hub(f'{name} is no folder here').hf_hub_download
    config, weights = (Path(download(name, file, **hub_options)) for file in (CONFIG, WEIGHTS))
    return config, weights


def load_strictly(model: Module, weights: Mapping[str, Tensor]) -> None:
    """Loads weights that fit to the last key and shape.

    Raises:
        ValueError: That lists those that don't.
    """
    own = model.state_dict()
    missing, unknown = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    misshapen = [f'{name}: {tuple(weights[name].shape)} for {tuple(own[name].shape)}' for name in own if name in weights and weights[name].shape != own[name].shape]

    if missing or unknown or misshapen:
        fail('weights', 'must have the keys and shapes of the model in their config', f'missing {missing}, unknown {unknown}, misshapen {misshapen}', 'Was one of the files replaced?')

    model.load_state_dict(weights, strict = True)


def safetensors():
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError('models on disk need safetensors: pip install "lvsm-pytorch[hub]"') from error

    return safetensors.torch


def hub(what: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(f'{what}: models of the Hugging Face hub need huggingface_hub: pip install "lvsm-pytorch[hub]"') from error

    return huggingface_hub


def num_inputs_of(model: Pretrained) -> int:
    """Of a model without `trained_for`, 2: the paper's."""
    return 2 if model.trained_for is None else model.trained_for.num_inputs


def default_size(model: Pretrained) -> tuple[int, int]:
    return (model.config['max_image_size'],) * 2 if model.trained_for is None else model.trained_for.image_size


def hash_of_weights(model: Pretrained) -> str:
    """Of names and values, wherever they came from."""
    digest = hashlib.sha256()

    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())

    return digest.hexdigest()
