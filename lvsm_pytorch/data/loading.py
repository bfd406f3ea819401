"""Data loading: samples in a global order, divided among processes and read by workers while the model computes."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch.utils.data import DataLoader, Dataset

from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.sources import Batch, Source

# seconds for which a worker continues after SIGTERM, which Python also sends to remaining workers when it exits

TIME_TO_FINISH = 60

StartMethod = Literal['fork', 'spawn', 'forkserver']


class Samples(Dataset):
    """Map-style dataset of a source's samples, each with the views and scenes newly skipped. An error is returned instead of raised, for the main process to raise."""

    def __init__(self, source: Source, problems: Problems):
        self.source = source
        self.problems = problems
        self.num_reported = 0

    def __getitem__(self, number: int) -> tuple[Batch | Exception, dict[str, str]]:
        try:
            sample = self.source.sample(number)
        except Exception as error:  # torch would add a worker's traceback to the message
            sample = error

        new = dict(list(self.problems.found.items())[self.num_reported:])
        self.num_reported = len(self.problems.found)
        return sample, new


class Collate:
    """Collates samples of a source to a batch, or returns their first error, with all views and scenes newly skipped."""

    def __init__(self, source: Source):
        self.source = source

    def __call__(self, samples: list[tuple[Batch | Exception, dict[str, str]]]) -> tuple[Batch | Exception, dict[str, str]]:
        skipped = {what: why for _, new in samples for what, why in new.items()}
        batches = [sample for sample, _ in samples if not isinstance(sample, Exception)]
        error = next((sample for sample, _ in samples if isinstance(sample, Exception)), None)
        return self.source.collate(batches) if error is None else error, skipped


def training_views(
    source: Source,
    numbers: range,
    *,
    batch_size: int,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
    start_method: StartMethod | None = None,
    problems: Problems | None = None,
    pin_memory: bool = False,
    shared_folder: Path | None = None,
) -> Generator[Batch, None, None]:
    """Yields batches of the samples of one process.

    Args:
        source: Source of the samples.
        numbers: Numbers of the samples of all processes. Process `rank` takes every `processes`-th.
        batch_size: Number of samples in a batch.
        rank: Number of this process.
        processes: Number of processes.
        workers: Number of worker processes that read ahead; with 0 samples are read on demand. Workers start with this call, and stop at the end or when the generator is closed. Results
            that all of them need, such as rendered worlds, are shared through files in a temporary folder.
        start_method: How workers start. By default they are forked on Linux, which copies what the source has read so far, and spawned elsewhere, which pickles the source. Programs with
            threads need 'spawn'.
        problems: Record of unusable views and scenes, also of those that workers find.
        pin_memory: Copy batches to pinned memory.
        shared_folder: Folder in place of the temporary one. Processes of one machine that have the same folder share results with each other too; its creator deletes it.

    Raises:
        Exception: An error of the source, at the batch where it occurs.
    """
    problems = Problems() if problems is None else problems
    mine = numbers[rank::processes]
    cleanup = ExitStack()

    if shared_folder is None and workers > 1:
        shared_folder = Path(cleanup.enter_context(TemporaryDirectory(prefix = 'lvsm-', ignore_cleanup_errors = True)))

    if shared_folder is not None:
        source.share(shared_folder)
        cleanup.callback(source.share, None)

    loader = DataLoader(
        Samples(source, problems),
        batch_size = batch_size,
        sampler = mine,
        num_workers = workers,
        collate_fn = Collate(source),
        worker_init_fn = leave_signals_to_the_main_process,
        multiprocessing_context = (start_method or default_start_method()) if workers > 0 else None,
        generator = torch.Generator(),                              # separate, so that creating the loader does not draw from the global generator, also in a resumed run
        pin_memory = pin_memory,
    )

    try:
        return batches(iter(loader), problems, cleanup)
    except BaseException:
        cleanup.close()
        raise


def batches(loader: Iterator[tuple[Batch | Exception, dict[str, str]]], problems: Problems, cleanup: ExitStack) -> Generator[Batch, None, None]:
    try:
        for views, skipped in loader:
            for what, why in skipped.items():
                problems.skip(what, why)

            if isinstance(views, Exception):
                raise views

            yield views
    finally:
        del loader  # otherwise its workers would run for as long as the traceback of an error is kept
        cleanup.close()


def leave_signals_to_the_main_process(_: int) -> None:
    """Makes a worker ignore Ctrl-C and delay termination by schedulers.

    These signals reach every process of a group, but the main process still needs its workers to finish the step. It also repeats their warnings.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    if hasattr(signal, 'alarm'):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(TIME_TO_FINISH))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    warnings.simplefilter('ignore')


def default_start_method() -> StartMethod:
    return 'fork' if sys.platform == 'linux' else 'spawn'


def can_have_workers() -> bool:
    """Returns whether workers can start by default. Spawned workers import the program's main module, which must support that."""
    return default_start_method() == 'fork'
