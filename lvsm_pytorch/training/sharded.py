"""Checkpoints of a network that FSDP shards: every process writes its own shards, and any number of processes reads what each of them needs.

A checkpoint is a folder: the tensors of network and optimizer in safetensors files, by torch.distributed.checkpoint, and all else in `run.pt`. It gets its name when it is complete.
"""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lvsm_pytorch.files import PARTIAL, write_whole

if TYPE_CHECKING:
    from accelerate import Accelerator

RUN = 'run.pt'


def save_shards(folder: Path, network: nn.Module, optimizer: Any, run: dict[str, Any], accelerator: Accelerator) -> None:
    """Writes a checkpoint. All processes call it.

    Args:
        folder: New, or replaced; its parent exists.
        network: As accelerate has prepared it.
        optimizer: Of torch.
        run: All else that is saved.
        accelerator: Of the processes.

    Raises:
        OSError: In all processes, if one of them can't write.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    partial = folder.with_name(f'.{folder.name}{PARTIAL}')

    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors = True)
        partial.mkdir()

    accelerator.wait_for_everyone()
    model, of_optimizer = states_of(network, optimizer)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')    # of torch, that there is one process
            dcp.save(dict(flat(model, of_optimizer)), storage_writer = dcp.HuggingFaceStorageWriter(str(partial), save_distributed = True))
    except CheckpointException as error:
        raise OSError(f'{folder}: must be written completely, but got {error}. Make room or choose another folder. Earlier checkpoints are unchanged.') from error

    if accelerator.is_main_process:
        shards = sorted(path.name for path in partial.glob('*.safetensors'))
        content = dict(run, shards = shards, param_groups = of_optimizer['param_groups'])
        write_whole(partial / RUN, lambda temporary: torch.save(content, temporary))
        shutil.rmtree(folder, ignore_errors = True)
        os.replace(partial, folder)

    accelerator.wait_for_everyone()


def load_shards(folder: Path, param_groups: list[dict[str, Any]], network: nn.Module, optimizer: Any) -> None:
    """Reads the tensors of a checkpoint into network and optimizer. All processes call it.

    Args:
        folder: Of `save_shards`.
        param_groups: Those in its `run.pt`.
        network: As accelerate has prepared it, sharded or not.
        optimizer: Of torch.

    Raises:
        RuntimeError: For the checkpoint of another network.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict import set_state_dict

    model, of_optimizer = states_of(network, optimizer)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            dcp.load(dict(flat(model, of_optimizer)), storage_reader = dcp.HuggingFaceStorageReader(str(folder)))
    except CheckpointException as error:
        raise RuntimeError(str(error)) from error

    set_state_dict(network, optimizer, model_state_dict = model, optim_state_dict = dict(of_optimizer, param_groups = param_groups))


def states_of(network: nn.Module, optimizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """States of network and optimizer by names of parameters, of which each process has its shards."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    return get_state_dict(network, optimizer)  # pyright: ignore[reportReturnType]


def flat(model: dict[str, Any], of_optimizer: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """All tensors by name, in place: what is read into them is in the states. Scalars, such as counts of steps, are vectors of one element: files have no slices of scalars."""
    states = [(f'optimizer.{name}.{key}', value) for name, state in of_optimizer['state'].items() for key, value in state.items()]
    return [(name, value.view(1) if value.ndim == 0 else value) for name, value in [*((f'model.{name}', value) for name, value in model.items()), *states]]
