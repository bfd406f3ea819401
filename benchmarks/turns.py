"""Implementations on the same cores or the same GPU, taking turns."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from case import Implementation, Work
from memory import PeakMemory
from worker import prepare, seconds_of

HERE = Path(__file__).parent
TURN = 0.4  # seconds: what takes milliseconds is done several times in a turn, or it would be measured waking up


@dataclass(frozen = True)
class Machine:
    """device: as torch names it. cores: to which all workers are pinned. seed_folder: where lvsm-pytorch 0.1.6 is installed.

    in_process: ours and its like run in this process, which saves a start each: on a GPU, where the memory of each turn is known.
    """
    device: str
    cores: list[int]
    seed_folder: Path
    in_process: bool = False

    @property
    def threads(self) -> int:
        return len(self.cores) or os.cpu_count() or 1


@dataclass(frozen = True)
class Measured:
    """seconds: of each round. bytes: the most memory that steps took, beside model and data. parameters: of the network."""
    seconds: list[float]
    bytes: int
    parameters: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Worker:
    """An implementation in a process of its own."""

    def __init__(self, work: Work, implementation: Implementation, machine: Machine):
        environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
        self.process = subprocess.Popen([sys.executable, str(HERE / 'worker.py')], stdin = subprocess.PIPE, stdout = subprocess.PIPE, text = True, env = environment)
        self.name = f'{implementation.name}: {work}'
        self.told = dict(
            work = asdict(work),
            implementation = asdict(implementation),
            device = machine.device,
            cores = machine.cores,
            threads = machine.threads,
            seed_folder = str(machine.seed_folder),
        )

    def start(self) -> int:
        return self.ask(self.told)['parameters']

    def seconds(self, times: int) -> float:
        return self.ask(times)['seconds']

    def memory(self) -> int:
        return self.ask('memory')['bytes']

    def ask(self, what: object) -> dict:
        assert self.process.stdin is not None
        assert self.process.stdout is not None

        with suppress(BrokenPipeError):  # that it has ended is seen below
            print(json.dumps(what), file = self.process.stdin, flush = True)

        line = self.process.stdout.readline()

        if not line:
            raise RuntimeError(f'the worker of {self.name} ended with {self.process.wait()}; what it said stands above')

        return json.loads(line)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class InProcess:
    """An implementation in this process. Its memory is that of the tensors of a step."""

    def __init__(self, work: Work, implementation: Implementation, machine: Machine):
        self.work = work
        self.implementation = implementation
        self.device = torch.device(machine.device)

    def start(self) -> int:
        torch.manual_seed(0)
        self.step, parameters = prepare(self.work, self.implementation, self.device, Path())
        return parameters

    def seconds(self, times: int) -> float:
        return seconds_of(self.step, times, self.device)

    def memory(self) -> int:
        if self.device.type != 'cuda':
            with PeakMemory() as memory:
                self.step()

            return memory.peak

        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def end(self) -> None:
        vars(self).clear()

        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


def take_turns(work: Work, implementations: list[Implementation], machine: Machine, *, rounds: int, warm_up: int = 2) -> dict[str, Measured]:
    """Each implementation does the work in its turn, once or for TURN seconds, and the time of one is noted; the order turns around every round."""
    with ExitStack() as ended:
        workers: dict[str, Worker | InProcess] = {}

        for implementation in implementations:
            kind = InProcess if machine.in_process and implementation.kind != 'seed' else Worker
            workers[implementation.name] = worker = kind(work, implementation, machine)
            ended.callback(worker.end)

        parameters = {name: worker.start() for name, worker in workers.items()}
        once = {name: [worker.seconds(1) for _ in range(warm_up)][-1] for name, worker in workers.items()}
        repeats = {name: max(round(TURN / each), 1) for name, each in once.items()}
        seconds: dict[str, list[float]] = {name: [] for name in workers}

        for index in range(rounds):
            for name in list(workers)[::1 if index % 2 == 0 else -1]:
                seconds[name].append(workers[name].seconds(repeats[name]))

        return {name: Measured(seconds[name], worker.memory(), parameters[name]) for name, worker in workers.items()}
