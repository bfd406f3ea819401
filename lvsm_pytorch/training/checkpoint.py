"""Checkpoints: all that an interrupted run needs to resume exactly.

A checkpoint is one file, or a folder for a network that FSDP shards (`sharded`), written atomically. It belongs to the whole run, however many processes share it: more or fewer can resume.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import uuid4

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import changes, config_to_yaml
from lvsm_pytorch.data import Batch, Source
from lvsm_pytorch.errors import fail
from lvsm_pytorch.evaluation.metrics import render_batch
from lvsm_pytorch.files import read_tensors, write_whole
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import save_pretrained
from lvsm_pytorch.training.average import averaged
from lvsm_pytorch.training.initialization import initial_model
from lvsm_pytorch.training.objective import model_in, network_of
from lvsm_pytorch.training.optim import optimizer_of
from lvsm_pytorch.training.runs import model_of
from lvsm_pytorch.training.sharded import RUN, load_shards, save_shards

if TYPE_CHECKING:
    from accelerate import Accelerator

FORMAT_VERSION = 1


class Progress(NamedTuple):
    """Where a run is.

    Attributes:
        step: Steps that are done.
        samples: Those that were trained with; the data resumes after them.
        skipped: Steps that were not taken, and in a row until now.
        seconds: That it took.
        best_psnr: Of held-out views, in dB, at the validation after `best_step` steps.
        best: All figures of that validation.
        initial: Figures of the initial weights, where these are given.
        run_id: The same for all parts of a run.
    """
    step: int = 0
    samples: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.
    best_psnr: float = -torch.inf
    best_step: int = 0
    best: dict[str, float] = {}
    initial: dict[str, float] = {}
    run_id: str = ''

    @classmethod
    def new(cls) -> Progress:
        return cls(run_id = uuid4().hex)

    def outcome(self, config: TrainConfig, last: dict[str, float]) -> dict[str, float]:
        """Figures of the model that is saved, the last one or the best, and of the initial weights."""
        initial = {name.replace('model_', 'initial_'): value for name, value in self.initial.items() if name.startswith('model_')}
        return (self.best or last if config.save_best else last) | initial

    def after_step(self, samples: int, *, is_taken: bool, seconds: float) -> Progress:
        return self._replace(
            step = self.step + 1,
            samples = self.samples + samples,
            skipped = self.skipped + (not is_taken),
            skipped_in_a_row = 0 if is_taken else self.skipped_in_a_row + 1,
            seconds = self.seconds + seconds,
        )


class Checkpoints:
    """The checkpoints of a run in a folder, of which the last `keep` and that of the best validation are kept."""

    def __init__(self, folder: Path, keep: int):
        self.folder = folder
        self.keep = keep

    def path(self, step: int) -> Path:
        """The file of a checkpoint."""
        return self.folder / f'step-{step:08d}.pt'

    def sharded(self, step: int) -> Path:
        """The folder of a checkpoint of a network that FSDP shards."""
        return self.path(step).with_suffix('')

    def steps(self) -> list[int]:
        """Of the checkpoints that are there, rising."""
        return sorted({int(path.stem.removeprefix('step-')) for path in self.folder.glob('step-*') if path.suffix in ('', '.pt')})

    def save(self, progress: Progress, state: dict[str, Any]) -> None:
        """Writes a checkpoint, and deletes those that need not be kept.

        Raises:
            OSError: Where it can't be written; the checkpoints before are as they were.
        """
        self.folder.mkdir(parents = True, exist_ok = True)
        content = dict(format_version = FORMAT_VERSION, progress = progress._asdict(), **state)
        write_whole(self.path(progress.step), lambda temporary: torch.save(content, temporary))
        shutil.rmtree(self.sharded(progress.step), ignore_errors = True)
        self.remove_old(progress)

    def remove_old(self, progress: Progress) -> None:
        """Deletes the checkpoints that need not be kept."""
        for step in self.steps()[:-self.keep]:
            if step != progress.best_step:
                self.remove(step)

    def remove(self, step: int) -> None:
        """Deletes a checkpoint of either kind."""
        self.path(step).unlink(missing_ok = True)
        shutil.rmtree(self.sharded(step), ignore_errors = True)

    def last(self) -> tuple[Progress, dict[str, Any]] | None:
        """The newest checkpoint that can be read; None where there is none at all.

        Raises:
            ValueError: Where there are some and none can be read, and for one of a later format.
        """
        for step in reversed(self.steps()):
            try:
                tensors = self.read(step)
                version, progress = tensors.pop('format_version'), Progress(**tensors.pop('progress'))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                warnings.warn(f'a checkpoint can not be read, and the previous one is used: {error}', stacklevel = 2)
                continue

            if version > FORMAT_VERSION:
                fail('resume', f'must be a checkpoint of format {FORMAT_VERSION} or before', f'{version} in {self.path(step)}', 'Update lvsm-pytorch.')

            return progress, tensors

        if self.steps():
            fail('resume', 'must have a checkpoint that can be read', f'none of {len(self.steps())} in {self.folder}', 'Start a new run with another --out.')

        return None

    def read(self, step: int) -> dict[str, Any]:
        """The content of a checkpoint; of a sharded one without the tensors of network and optimizer, and with its `folder`.

        Raises:
            ValueError: For one that can't be read.
        """
        folder = self.sharded(step)

        if not folder.is_dir():
            return read_tensors(self.path(step), argument = 'resume')

        content = read_tensors(folder / RUN, argument = 'resume')
        missing = [name for name in content['shards'] if not (folder / name).is_file()]

        if missing:
            fail('resume', f'must have all {len(content["shards"])} files of a checkpoint in {folder}', f'{missing[:3]} missing', 'Copy the whole folder.')

        return content | dict(folder = folder)


class Training:
    """What is trained.

    Args:
        network: What is trained, which has the model; as accelerate has prepared it.
        optimizer: As accelerate has prepared it.
        average: Of the weights, or None.
        model: Of the same sizes, by which it is saved.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator, model: LVSM, network: nn.Module, optimizer: Any, average: Any):
        self.config = config
        self.accelerator = accelerator
        self.model = model
        self.network = network
        self.optimizer = optimizer
        self.average = average

    @classmethod
    def begin(cls, config: TrainConfig, source: Source, accelerator: Accelerator) -> Training:
        """With the initial weights of the config, or random ones by its seed, the same in all processes, which draw random numbers of their own from then on."""
        torch.manual_seed(config.seed)
        model = model_of(config, source)
        average = None

        if config.init_from is not None:
            model.load_state_dict(initial_model(config.init_from).state_dict())

        if config.ema_decay > 0:
            average = averaged(model_of(replace(config, perceptual_loss = None)), config.ema_decay).to(accelerator.device)
            average.update_parameters(model)

        model.to(accelerator.device)  # with its perceptual loss, which FSDP would leave where it is
        network = network_of(model, config)
        network, optimizer = accelerator.prepare(network, optimizer_of(network, config))
        torch.manual_seed(config.seed * 1_000_003 + accelerator.process_index)
        return cls(config, accelerator, model, network, optimizer, average)

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP shards weights and optimizer."""
        return any(isinstance(p, DTensor) for p in self.network.parameters())

    @property
    def validated(self) -> LVSM:
        """The model that is validated and saved: the average of the weights, if there is one."""
        network = self.accelerator.unwrap_model(self.network, keep_torch_compile = False) if self.average is None else self.average.module
        return model_in(network)

    def update_average(self) -> None:
        if self.average is not None:
            self.average.update_parameters(self.model)

    def render(self, batch: Batch) -> Tensor:
        """As `metrics.render_batch`."""
        with self.accelerator.autocast():
            return render_batch(self.validated, batch, batch_size = self.config.samples_at_once(self.accelerator.num_processes))

    def save_model(self, folder: Path) -> None:
        """All processes call it; the main one writes."""
        weights = self.weights()

        if self.is_main:
            save_pretrained(self.model, folder, weights)

    def weights(self) -> dict[str, Tensor]:
        """Of the validated model, whole, on the CPU. All processes call it."""
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        return cast(dict[str, Tensor], get_model_state_dict(self.validated, options = whole()))

    def state(self) -> dict[str, Any]:
        """All that changes while training, and the config, from which the schedule and the samples follow. All processes call it; it is whole on the main one."""
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizer = get_state_dict(self.network, self.optimizer.optimizer, options = whole())
        average = None if self.average is None else self.average.state_dict()
        return dict(model = model, optimizer = optimizer, average = average, **self.run_state())

    def run_state(self) -> dict[str, Any]:
        """Of the state what is not of network and optimizer."""
        from accelerate.utils import gather_object

        return dict(random = gather_object([random_state(self.accelerator.device)]), config = config_to_yaml(self.config))

    def save(self, checkpoints: Checkpoints, progress: Progress) -> None:
        """All processes call it; the main one writes."""
        if self.is_sharded:
            run = dict(format_version = FORMAT_VERSION, progress = progress._asdict(), average = None, **self.run_state())
            checkpoints.folder.mkdir(parents = True, exist_ok = True)
            save_shards(checkpoints.sharded(progress.step), self.network, self.optimizer.optimizer, run, self.accelerator)

            if self.is_main:
                checkpoints.path(progress.step).unlink(missing_ok = True)
                checkpoints.remove_old(progress)

            return

        state = self.state()

        if self.is_main:
            checkpoints.save(progress, state)

    def resume(self, checkpoints: Checkpoints) -> tuple[Progress, list[str]]:
        """Loads the last checkpoint, if there is one; returns where the run is and what changed in the config since.

        Raises:
            ValueError: As `Checkpoints.last` and `set_state`.
        """
        last = checkpoints.last()

        if last is None:
            return Progress.new(), []

        progress, state = last
        self.set_state(state)
        return progress, changes(state['config'], self.config)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state.

        Raises:
            ValueError: For the checkpoint of another network.
        """
        from torch.distributed.checkpoint.state_dict import set_state_dict

        try:
            if 'folder' in state:
                load_shards(state['folder'], state['param_groups'], self.network, self.optimizer.optimizer)
            else:
                set_state_dict(self.network, self.optimizer.optimizer, model_state_dict = state['model'], optim_state_dict = state['optimizer'], options = whole())

            if self.average is not None and state['average'] is not None:
                self.average.load_state_dict(state['average'])
        except (RuntimeError, KeyError) as error:
            got = f'one from when the config had not {", ".join(changes(state["config"], self.config)) or error}'
            raise ValueError(f'resume: must be a checkpoint of the network and the optimizer of the config, but got {got}. Keep the network and the optimizer with which the run started.') from error

        if self.accelerator.process_index < len(state['random']):
            set_random_state(state['random'][self.accelerator.process_index], self.accelerator.device)


def whole() -> Any:
    """Of all processes together, on the CPU."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict = True, cpu_offload = True)


def random_state(device: torch.device) -> dict[str, Tensor]:
    states = dict(cpu = torch.get_rng_state())
    return states if device.type == 'cpu' else states | {device.type: torch.get_device_module(device).get_rng_state()}


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states['cpu'])

    if device.type != 'cpu' and device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type])
