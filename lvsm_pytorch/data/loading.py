"""Samples in a global order, shared by processes and read by workers while the model computes."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Generator, Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.sources import Batch, Source

# seconds that a worker lives on after SIGTERM, by which Python also stops those that are left when it ends

TIME_TO_FINISH = 60


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


def training_views(
    source: Source,
    numbers: range,
    *,
    batch_size: int,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
    problems: Problems | None = None,
    pin_memory: bool = False,
) -> Generator[Batch, None, None]:
    """Batches of the samples of these numbers, of which process `rank` takes every so many-th (of `processes`), `batch_size` at a time.

    Args:
        workers: Processes that read them in advance; 0 reads them on demand. What they skip is noted in `problems`. They start when this is called, and stop with its end, or its
            `close`.

    Raises:
        Exception: What the source raises, at its batch.
    """
    problems = Problems() if problems is None else problems
    mine = numbers[rank::processes]

    def collate(samples: list[tuple[Batch | Exception, dict[str, str]]]) -> tuple[Batch | Exception, dict[str, str]]:
        skipped = {what: why for _, new in samples for what, why in new.items()}
        views = [sample for sample, _ in samples if not isinstance(sample, Exception)]
        error = next((sample for sample, _ in samples if isinstance(sample, Exception)), None)
        return source.collate(views) if error is None else error, skipped

    loader = DataLoader(
        Samples(source, problems),
        batch_size = batch_size,
        sampler = mine,
        num_workers = workers,
        collate_fn = collate,
        worker_init_fn = leave_signals_to_the_main_process,
        multiprocessing_context = 'fork' if workers > 0 else None,  # a source has caches and open files, which no other way hands over
        generator = torch.Generator(),                              # its own, so that a run that is resumed draws no more than one that is not
        pin_memory = pin_memory,
    )
    return batches(iter(loader), problems)


def batches(loader: Iterator[tuple[Batch | Exception, dict[str, str]]], problems: Problems) -> Generator[Batch, None, None]:
    try:
        for views, skipped in loader:
            for what, why in skipped.items():
                problems.skip(what, why)

            if isinstance(views, Exception):
                raise views

            yield views
    finally:
        del loader  # or its workers would wait for as long as the traceback of an error is kept


def leave_signals_to_the_main_process(_: int) -> None:
    """Ctrl-C and what a scheduler sends reach every process of a group; the main one still needs the workers, to finish its step. It warns for them too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(TIME_TO_FINISH))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    warnings.simplefilter('ignore')


def can_have_workers() -> bool:
    return sys.platform == 'linux'
