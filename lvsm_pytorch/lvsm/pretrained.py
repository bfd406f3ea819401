"""Saving and loading of models: `config.json` and `model.safetensors`, as on the Hugging Face hub."""

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
    """Settings of a model's training data.

    Attributes:
        pose_frame: Normalisation of poses: inputs or scene.
        image_size: (height, width) in pixels.
        num_inputs: Number of input views.
        unit: Length in the world that became 1, if it was the same for all scenes; None if the cameras determined it.
        scale: What determines the unit of length: 'cameras' (or `unit`), or 'depth', the distance of the scene (`geometry.scene_scale`).
        world: For a model of one scene, the similarity (4 4) from its world to that of the rays, as nested rows, for `geometry.move_poses`.
    """
    pose_frame: str
    image_size: tuple[int, int]
    num_inputs: int
    unit: float | None = None
    scale: str = 'cameras'
    world: list[list[float]] | None = None

    @property
    def takes_unit_of_set(self) -> bool:
        """Whether the cameras of a photo set determine its unit of length."""
        return self.pose_frame == 'inputs' and self.unit is None and self.scale == 'cameras'


class Pretrained(Module):
    """Base class with saving and loading.

    Args:
        config: All arguments of the network except the perceptual loss.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = config
        self.trained_for: TrainedFor | None = None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.parameters()).dtype

    @classmethod
    def from_size(cls, name: str, **changes: Any) -> Self:
        """Returns a new model with the arguments of one of `SIZES`, overridden by `changes`.

        Raises:
            ValueError: If the name is unknown.
        """
        if name not in SIZES:
            fail('name', f'must be one of {list(SIZES)}', repr(name), 'Or pass the sizes: LVSM(dim, ...).')

        return cls(**{**SIZES[name], **changes})

    def save_pretrained(self, folder: str | PathLike[str], *, dtype: torch.dtype | None = None) -> None:
        """Saves `config.json` and `model.safetensors` into a folder, atomically. Needs the extra `hub` or `train`.

        Saves `trained_for` too, but not the perceptual loss.

        Args:
            dtype: Type of the saved weights, by default that of the model. `torch.float16` halves the file. Loading converts to float32.
        """
        save_pretrained(self, folder, dtype = dtype)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, commit_message: str = 'LVSM', revision: str | None = None, token: str | bool | None = None, dtype: torch.dtype | None = None,
    ) -> str:
        """Uploads the files of `save_pretrained` to the Hugging Face hub. Needs the extra `hub` or `train`.

        The call is that of huggingface_hub's mixin, which would load huggingface_hub with this library.

        Args:
            repo_id: As `name/model`. Created if it does not exist.
            private: Visibility of a new repository, by default that of the account.
            commit_message: Commit message.
            revision: Branch, by default the main branch.
            token: Token, by default that of `hf auth login`.
            dtype: As in `save_pretrained`.

        Returns:
            URL of the upload.
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
        """Loads a model of `save_pretrained`, in eval mode. All keys must match.

        Args:
            folder_or_hub_id: A folder, a packaged model ('photos-128', or 'solids-128' for built-in synthetic scenes), or a model on the Hugging Face hub (extra `hub`).
            dtype: Type of the weights, by default float32.
            torch_dtype: Alias of dtype.
            device: Device of the model, by default the CPU; 'auto' is a GPU if there is one.
            revision: As in `huggingface_hub.hf_hub_download`.
            token: As in `huggingface_hub.hf_hub_download`.
            cache_dir: As in `huggingface_hub.hf_hub_download`.
            force_download: As in `huggingface_hub.hf_hub_download`.
            local_files_only: As in `huggingface_hub.hf_hub_download`.
            changes: Arguments of `LVSM` that override the saved ones, such as `max_image_size`.

        Raises:
            ValueError: If files are missing, broken or of a later format, or keys don't match; the message lists them.
        """
        if dtype is not None and torch_dtype is not None:
            fail('torch_dtype', 'must be omitted if dtype is given', torch_dtype, 'It is an alias of dtype.')

        hub_options = dict(revision = revision, token = token, cache_dir = cache_dir, force_download = force_download, local_files_only = local_files_only)
        arguments, trained_for, weights = read_pretrained(folder_or_hub_id, **hub_options)
        model = cls(**{**arguments, **changes})
        load_strictly(model, weights)
        model.trained_for = trained_for
        model.to(dtype = dtype or torch_dtype, device = None if device is None else pick_device(str(device)))
        return model.eval()

    @classmethod
    def from_official(cls, checkpoint: str | PathLike[str] | Mapping[str, Any], *, max_image_size: int = 256) -> Self:
        """Loads a checkpoint of the LVSM authors, in eval mode; the inverse is `official.to_official`.

        The authors publish their weights for non-commercial use.

        Args:
            checkpoint: A file, which is read without running code, its content, or its state dict. Sizes are read from the tensors; entries under `loss_computer.` are ignored.
            max_image_size: Default height and width of images in pixels.

        Raises:
            ValueError: As in `official.read_official`, with the keys that don't match.
        """
        sizes, weights = read_official(checkpoint)
        model = cls(**dict(sizes, max_image_size = max_image_size))
        load_strictly(model, weights)
        return model.eval()


def save_pretrained(model: Pretrained, folder: str | PathLike[str], weights: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None) -> None:
    """Saves a model as `LVSM.save_pretrained` does.

    Args:
        model: Model to save.
        folder: Folder to write to.
        weights: Weights to save, for a sharded model; by default those of the model.
        dtype: As in `LVSM.save_pretrained`.
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
        raise ValueError(f'decoder_kwargs: must be plain values for saving, but got {model.config["decoder_kwargs"]}: {error}. Save model.state_dict() instead.') from error

    folder.mkdir(parents = True, exist_ok = True)
    weights = {name: tensor.detach().to('cpu', dtype).contiguous() for name, tensor in (model.state_dict() if weights is None else weights).items()}
    write_whole(folder / WEIGHTS, lambda temporary: save_file(weights, temporary, metadata = dict(format = 'pt')))
    write_whole(folder / CONFIG, lambda temporary: temporary.write_text(text, encoding = 'utf-8'))


def read_pretrained(folder_or_hub_id: str | PathLike[str], **hub_options: Any) -> tuple[dict[str, Any], TrainedFor | None, dict[str, Tensor]]:
    """Reads the arguments of `LVSM`, `trained_for` (or None), and the weights."""
    config_path, weights_path = find_pretrained(folder_or_hub_id, **hub_options)

    config = read_json(config_path)

    if not isinstance(config, dict) or config.get('model_type') != 'lvsm' or 'model' not in config:
        fail(str(config_path), 'must be the config of an LVSM that this library saved', str(config)[:80], 'Checkpoints of the paper\'s authors are read by LVSM.from_official.')

    if config.get('format_version', 0) > FORMAT_VERSION:
        fail(str(config_path), f'must have a format_version up to {FORMAT_VERSION}', config['format_version'], 'Update lvsm-pytorch.')

    try:
        weights = safetensors().load_file(weights_path)
    except Exception as error:  # safetensors raises many types of errors for broken files
        raise ValueError(f'{weights_path}: must be a safetensors file, but {error}. Save the model again.') from error

    return config['model'], trained_for_of(config.get('trained_for')), weights


def trained_for_of(content: Any) -> TrainedFor | None:
    if content is None:
        return None

    if not isinstance(content, dict) or set(content) != set(TrainedFor._fields):
        fail('folder_or_hub_id', f'must have {TrainedFor._fields} in trained_for of its config.json', content, 'Save the model again, or set trained_for to null.')

    return TrainedFor(**{**content, 'image_size': tuple(content['image_size'])})


def find_pretrained(folder_or_hub_id: str | PathLike[str], **hub_options: Any) -> tuple[Path, Path]:
    """Returns the paths of config and weights, in a folder, of a packaged model, or downloaded from the Hugging Face hub."""
    folder = folder_of(folder_or_hub_id)

    if folder.is_dir():
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]

        if missing:
            fail('folder_or_hub_id', f'must have {CONFIG} and {WEIGHTS}', f'{folder} without {missing}', 'Save a model there with save_pretrained.')

        return folder / CONFIG, folder / WEIGHTS

    name = str(folder_or_hub_id)

    if not re.fullmatch(r'[\w.-]+/[\w.-]+', name):
        fail('folder_or_hub_id', f'must be an existing folder, one of {packaged_models()}, or a hub id like `name/model`', repr(name), 'Save a model there with save_pretrained.')

    download = hub(f'{name} is not a folder').hf_hub_download
    config, weights = (Path(download(name, file, **hub_options)) for file in (CONFIG, WEIGHTS))
    return config, weights


def load_strictly(model: Module, weights: Mapping[str, Tensor]) -> None:
    """Loads weights, of which all keys and shapes must match.

    Raises:
        ValueError: If some don't match; the message lists them.
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
    """Returns the number of input views in training; without `trained_for` 2, as in the paper."""
    return 2 if model.trained_for is None else model.trained_for.num_inputs


def default_size(model: Pretrained) -> tuple[int, int]:
    return (model.config['max_image_size'],) * 2 if model.trained_for is None else model.trained_for.image_size


def hash_of_weights(model: Pretrained) -> str:
    """SHA-256 of the names and values of the weights."""
    digest = hashlib.sha256()

    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())

    return digest.hexdigest()
