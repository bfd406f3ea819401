"""The training loop, for one process or for several that `accelerate launch` or `torchrun` start."""

from __future__ import annotations

import shutil
import signal
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.distributed.tensor import DTensor

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import CONFIG, save_config
from lvsm_pytorch.data import Batch, Problems, Source, training_views
from lvsm_pytorch.data.posing import with_poses
from lvsm_pytorch.data.storage import remote_url
from lvsm_pytorch.errors import fail
from lvsm_pytorch.evaluation.metrics import table
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.files import make_folder, remove_partial_files
from lvsm_pytorch.isolation import own_accelerate_state, own_random_numbers
from lvsm_pytorch.training.checkpoint import Checkpoints, Progress, Training
from lvsm_pytorch.training.initialization import with_network_of_weights
from lvsm_pytorch.training.logging import METRICS, Log, Step, check_trackers
from lvsm_pytorch.training.objective import arguments_of, image_error
from lvsm_pytorch.training.optim import is_step_accepted, learning_rate, set_learning_rates
from lvsm_pytorch.training.reproducible import warm_up_mkl
from lvsm_pytorch.training.runs import BEST, CHECKPOINTS, source_of, workers_of
from lvsm_pytorch.training.shutdown import GracefulShutdown, Stopped
from lvsm_pytorch.training.validation import Validator

if TYPE_CHECKING:
    from accelerate import Accelerator

MOST_SKIPPED_IN_A_ROW = 100


def train(config: TrainConfig, *, source: Source | None = None, resume: bool = False, overwrite: bool = False, handle_signals: bool = False) -> dict[str, float]:
    """Trains a model as the config says, and returns the figures of the last validation; with `save_best`, those of the best one.

    Writes into `config.out` what is listed there. Torch's generators and accelerate's state are afterwards as they were before. Weights of `init_from` are validated before the first step.

    Args:
        source: Samples of your own, in place of those of `config.data`. Its number of inputs and the size of its images are the config's.
        resume: Resume the run in `config.out`, if there is one.
        overwrite: Delete it and start anew.
        handle_signals: Take Ctrl-C and SIGTERM as a wish to finish the step and save a checkpoint, as the command does; the program's own handlers are put back afterwards.

    Raises:
        ImportError: For trackers that are not installed.
        ValueError: For data and settings that can't be trained with, and for a run that has diverged.
        Stopped: For a run that was stopped by a signal.
        OSError: Where the folder can't be written, with all that was saved before whole.
    """
    if resume and overwrite:
        fail('resume', 'must be left out with --overwrite', 'both', 'Choose one of --resume and --overwrite.')

    config = with_network_of_weights(config)
    config.check()
    config = with_poses(config)
    check_trackers(config)
    warm_up_mkl()

    with accelerator_of(config) as accelerator, own_random_numbers(accelerator.device):
        if accelerator.is_main_process:
            claim_run(config, resume = resume, overwrite = overwrite)

        accelerator.wait_for_everyone()
        problems = Problems()
        source = source_of(config, problems) if source is None else checked_source(source, config)
        absolute = tuple(data if remote_url(data) else data.absolute() for data in config.datasets)  # other commands read them from other folders
        config = replace(config, pose_frame = source.frame, data = absolute or None)
        training = Training.begin(config, source, accelerator)
        checkpoints = Checkpoints(config.out / CHECKPOINTS, config.keep_checkpoints)
        progress, changed = training.resume(checkpoints) if resume else (Progress.new(), [])

        with folder_of_machine(accelerator) as folder, closing(shared_views(source, config, progress, accelerator, problems, folder)) as views:
            validator = Validator(source, config)
            accelerator.print(source.description)
            accelerator.print(validator.describe())

            if accelerator.is_main_process:
                save_config(config.out, config)

            if progress.step:
                accelerator.print('; '.join((f'{config.out}: resumes after step {progress.step} of {config.steps}', *changed)))

            found = run_steps(config, training, progress, views, validator, checkpoints, handle_signals)

        for text in filter(None, (problems.summary(), table(found), validator.verdict(found), f'{config.out}/comparison.png shows the held-out views')):
            accelerator.print(text)

    return found


def run_steps(config: TrainConfig, training: Training, progress: Progress, views: Iterator[Batch], validator: Validator, checkpoints: Checkpoints, handle_signals: bool) -> dict[str, float]:
    """Trains from the present step to the last. Returns metrics of the saved model and of the initial weights."""
    accelerator, network, optimizer = training.accelerator, training.network, training.optimizer

    if progress.step >= config.steps:
        found, progress = validator.run(training, progress)
        return progress.outcome(config, found)

    found: dict[str, float] = {}

    with GracefulShutdown(once = accelerator.num_processes == 1, is_on = handle_signals) as shutdown, Log(config, progress, is_main = training.is_main) as log:
        if progress.step == 0 and config.init_from is not None:
            found, progress = validator.run(training, progress)
            progress = progress._replace(initial = found)
            log.record(progress, found)

        for step in range(progress.step, config.steps):
            started = time.monotonic()

            set_learning_rates(optimizer, step, config)

            # gradients, accumulated over parts of the step's samples

            loss = error = torch.zeros((), device = accelerator.device)

            for _ in range(config.accumulate):
                batch = next(views).to(accelerator.device)
                arguments = arguments_of(batch, config)    # rays are made here, outside of autocast

                with accelerator.accumulate(network):
                    with accelerator.autocast():
                        part, breakdown = network(**arguments, return_loss_breakdown = True)

                    accelerator.backward(part)

                loss = loss + part.detach() / config.accumulate
                error = error + image_error(breakdown).detach() / config.accumulate

            # means over processes: the only synchronization with the device in a step

            gradient_norm = whole_tensor(accelerator.clip_grad_norm_(network.parameters(), config.max_grad_norm))  # pyright: ignore[reportArgumentType]
            loss, error, gradient_norm, is_stopped = agreed(accelerator, loss, error, gradient_norm, shutdown.received)

            # optimizer step

            is_taken = is_step_accepted(gradient_norm, config)

            if is_taken:
                optimizer.step()
                training.update_average()

            optimizer.zero_grad()

            # progress

            seconds = time.monotonic() - started
            progress = progress.after_step(config.batch_size, is_taken = is_taken, seconds = seconds)
            log.step(progress, Step(loss, error, gradient_norm, learning_rate(step, config), seconds))

            if progress.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
                got = f'{gradient_norm} at step {progress.step}, after {MOST_SKIPPED_IN_A_ROW} in a row that were no better'
                fail('gradient', f'must have a norm up to skip_grad_norm {config.skip_grad_norm}', got, 'Lower --learning-rate, and continue from the last checkpoint by --resume.')

            # validation, a record, a checkpoint

            is_last = progress.step == config.steps
            is_validation = is_last or progress.step % config.evaluate_every == 0

            if is_validation:
                found, progress = validator.run(training, progress)

            if is_validation or progress.step % config.log_every == 0:
                log.record(progress, found if is_validation else {})

            if progress.best_step == progress.step or is_last or is_stopped or progress.step % config.save_every == 0:
                training.save(checkpoints, progress)

            if is_stopped and not is_last:
                raise Stopped(f'stopped after step {progress.step} of {config.steps}, which is saved: continue with --resume', shutdown.received or signal.SIGTERM)

    return progress.outcome(config, found)


def checked_source(source: Source, config: TrainConfig) -> Source:
    """Checks a source passed by the user.

    Raises:
        ValueError: If it does not fit the config.
    """
    if config.data is not None:
        fail('data', 'must be left out with a source of your own', config.data, 'The source has its own data.')

    if source.num_inputs != config.num_inputs:
        fail('source', f'must have as many input views as the config, num_inputs {config.num_inputs}', source.num_inputs, 'Set the same number in both.')

    return source


@contextmanager
def accelerator_of(config: TrainConfig) -> Iterator[Accelerator]:
    """The accelerator of a run: several processes under a launcher, else one.

    Raises:
        ImportError: Without accelerate.
        ValueError: If the device is not available, or the config does not fit the number of processes.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedType, GradientAccumulationPlugin
    except ImportError as error:
        raise ImportError('training needs accelerate: pip install "lvsm-pytorch[train]"') from error

    with own_accelerate_state(), warnings.catch_warnings():
        # unset options are left to accelerate, so that `accelerate config` applies

        accelerator = Accelerator(
            cpu = config.device == 'cpu',
            mixed_precision = 'bf16' if config.bf16 else None,
            dynamo_backend = 'inductor' if config.compile else None,
            gradient_accumulation_plugin = GradientAccumulationPlugin(num_steps = config.accumulate, sync_with_dataloader = False),
        )

        if config.device != 'auto' and pick_device(config.device).type != accelerator.device.type:
            fail('device', f'must be the one that accelerate has chosen, {accelerator.device}', config.device, 'Leave it out, or see `accelerate config`.')

        if accelerator.mixed_precision == 'fp16':
            fail('mixed_precision', 'must be no or bf16 in the config of accelerate', 'fp16', 'Pass --bf16, or set it by `accelerate config`: float16 needs its loss scaled, and a step that is not taken would end that.')

        if accelerator.distributed_type == DistributedType.FSDP:
            prepare_fsdp(accelerator, config)

        config.samples_at_once(accelerator.num_processes)
        yield accelerator


def prepare_fsdp(accelerator: Accelerator, config: TrainConfig) -> None:
    """Leaves precision to autocast, since FSDP would round the rays to bfloat16.

    Raises:
        ValueError: If an option is not supported with FSDP.
    """
    from accelerate.utils import DynamoBackend
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin: Any = accelerator.state.fsdp_plugin
    is_compiled = cast(Any, accelerator.state.dynamo_plugin).backend != DynamoBackend.NO

    if plugin.fsdp_version != 2:
        fail('fsdp_version', 'must be 2 in the config of accelerate', plugin.fsdp_version, 'Set it in the file of `accelerate config`, or by --fsdp_version 2.')

    for name, value, off in (('ema_decay', config.ema_decay, '--ema-decay 0'), ('compile', is_compiled, '--no-compile')):
        if value:
            fail(name, 'must be off where weights are shared out by FSDP', value, f'Say {off}, or train without FSDP.')

    plugin.mixed_precision_policy = MixedPrecisionPolicy()
    warnings.filterwarnings('ignore', 'FSDP2-wrapped module .* returned a view')  # which nobody changes in place


def claim_run(config: TrainConfig, *, resume: bool, overwrite: bool) -> None:
    """Creates the folder of a run.

    Raises:
        ValueError: If it has a run that is neither resumed nor overwritten.
    """
    run = config.out

    if (run / CONFIG).exists() and not resume and not overwrite:
        fail('out', 'must be a new folder', f'{run}, which has a run', 'Choose another, resume the run by --resume, or replace it by --overwrite.')

    make_folder(run)

    if overwrite:
        for folder in (CHECKPOINTS, BEST, 'tensorboard'):
            shutil.rmtree(run / folder, ignore_errors = True)

        (run / METRICS).unlink(missing_ok = True)

    for folder in (run, run / CHECKPOINTS, run / BEST):
        remove_partial_files(folder)


def shared_views(source: Source, config: TrainConfig, progress: Progress, accelerator: Accelerator, problems: Problems, folder: Path | None = None) -> Generator[Batch, None, None]:
    """Batches of this process, from the present step to the last."""
    return training_views(
        source,
        range(progress.samples, progress.samples + max(config.steps - progress.step, 0) * config.batch_size),
        batch_size = config.samples_at_once(accelerator.num_processes),
        rank = accelerator.process_index,
        processes = accelerator.num_processes,
        workers = workers_of(config, accelerator.device),
        problems = problems,
        pin_memory = accelerator.device.type == 'cuda',
        shared_folder = folder,
    )


@contextmanager
def folder_of_machine(accelerator: Accelerator) -> Iterator[Path | None]:
    """A temporary folder that the processes of a machine share, and that its first process removes at the end; None for a run of one process, or where they do not share a disk.

    All processes call it.
    """
    if accelerator.num_processes == 1:
        yield None
        return

    from accelerate.utils import gather_object

    with ExitStack() as cleanup:
        mine = cleanup.enter_context(TemporaryDirectory(prefix = 'lvsm-', ignore_cleanup_errors = True)) if accelerator.is_local_main_process else None
        folders = gather_object([mine])
        folder = folders[accelerator.process_index - accelerator.local_process_index]    # launchers number the processes of a machine one after the other
        yield Path(folder) if folder is not None and Path(folder).is_dir() else None


def whole_tensor(t: torch.Tensor) -> torch.Tensor:
    """The full tensor of a DTensor; other tensors unchanged."""
    return t.full_tensor() if isinstance(t, DTensor) else t


def agreed(accelerator: Accelerator, loss: torch.Tensor, error: torch.Tensor, gradient_norm: torch.Tensor, stop: int) -> tuple[float, float, float, bool]:
    """Means over all processes, and whether any received a signal to stop."""
    means = torch.stack((loss, error, gradient_norm.to(loss.dtype), loss.new_full((), float(stop > 0))))

    if accelerator.num_processes > 1:
        means = cast(torch.Tensor, accelerator.reduce(means, 'mean'))

    loss_mean, error_mean, norm_mean, stopped = means.tolist()
    return loss_mean, error_mean, norm_mean, stopped > 0
