"""Samples in a global order, shared by processes and read by workers while the model computes."""

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

# seconds that a worker lives on after SIGTERM, by which Python also stops those that are left when it ends

TIME_TO_FINISH = 60

StartMethod = Literal['fork', 'spawn', 'forkserver']


class Samples(Dataset):
    """A source's samples by number, each with what was newly skipped on the way to it. An error is returned, for the caller to raise."""

    def __init__(self, source: Source, problems: Problems):
        self.source = source
        self.problems = problems
        self.num_told = 0

    def __getitem__(self, number: int) -> tuple[Batch | Exception, dict[str, str]]:
        try:
            sample = self.source.sample(number)
        except Exception as error:  # a worker's would come back with a traceback in its message
            sample = error

        new = dict(list(self.problems.found.items())[self.num_told:])
        self.num_told = len(self.problems.found)
        return sample, new


class Collate:
    """Samples of a source as one batch, with all that was skipped on the way to it; or their first error."""

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
) -> Generator[Batch, None, None]:
    """Batches of the samples of these numbers, of which process `rank` takes every so many-th (of `processes`), `batch_size` at a time.

    Args:
        workers: Processes that read them in advance; 0 reads them on demand. What they skip is noted in `problems`. They start when this is called, and stop with its end, or its
            `close`. What each of them would compute, such as rendered worlds, they share through files in a temporary folder.
        start_method: How workers start. By default they are forked on Linux, with all that the source has read so far; else spawned, with the source pickled, which is what programs
            that have threads need.

    Raises:
        Exception: What the source raises, at its batch.
    """
    problems = Problems() if problems is None else problems
    mine = numbers[rank::processes]
    cleanup = ExitStack()

    if workers > 1:
        source.share(Path(cleanup.enter_context(TemporaryDirectory(prefix = 'lvsm-', ignore_cleanup_errors = True))))
        cleanup.callback(source.share, None)

    loader = DataLoader(
        Samples(source, problems),
        batch_size = batch_size,
        sampler = mine,
        num_workers = workers,
        collate_fn = Collate(source),
        worker_init_fn = leave_signals_to_the_main_process,
        multiprocessing_context = (start_method or default_start_method()) if workers > 0 else None,
        generator = torch.Generator(),                              # its own, so that a run that is resumed draws no more than one that is not
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
        del loader  # or its workers would wait for as long as the traceback of an error is kept
        cleanup.close()


def leave_signals_to_the_main_process(_: int) -> None:
    """Ctrl-C and what a scheduler sends reach every process of a group; the main one still needs the workers, to finish its step. It warns for them too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    if hasattr(signal, 'alarm'):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(TIME_TO_FINISH))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    warnings.simplefilter('ignore')


def default_start_method() -> StartMethod:
    return 'fork' if sys.platform == 'linux' else 'spawn'


def can_have_workers() -> bool:
    """Whether workers start without the help of the program: spawned ones import its main module, which has to be written for it."""
    return default_start_method() == 'fork'
