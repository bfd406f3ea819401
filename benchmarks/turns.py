"""Implementations in worker processes of their own, on the same cores, taking turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from case import Implementation, Work

HERE = Path(__file__).parent
TURN = 0.4  # seconds: what takes milliseconds is done several times in a turn, or it would be measured waking up


@dataclass(frozen = True)
class Machine:
    """device: as torch names it. cores: to which all workers are pinned. seed_folder: where lvsm-pytorch 0.1.6 is installed."""
    device: str
    cores: list[int]
    seed_folder: Path


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
    def __init__(self, work: Work, implementation: Implementation, machine: Machine):
        environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
        self.process = subprocess.Popen([sys.executable, str(HERE / 'worker.py')], stdin = subprocess.PIPE, stdout = subprocess.PIPE, text = True, env = environment)
        self.name = f'{implementation.name}: {work}'
        self.told = dict(
            work = asdict(work),
            implementation = asdict(implementation),
            device = machine.device,
            cores = machine.cores,
            threads = len(machine.cores) or os.cpu_count(),
            seed_folder = str(machine.seed_folder),
        )

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


def take_turns(work: Work, implementations: list[Implementation], machine: Machine, *, rounds: int, warm_up: int = 2) -> dict[str, Measured]:
    """Each implementation does the work in its turn, once or for TURN seconds, and the time of one is noted; the order turns around every round."""
    with ExitStack() as ended:
        workers = {implementation.name: Worker(work, implementation, machine) for implementation in implementations}

        for worker in workers.values():
            ended.callback(worker.end)

        parameters = {name: worker.ask(worker.told)['parameters'] for name, worker in workers.items()}
        once = {name: [worker.ask(1)['seconds'] for _ in range(warm_up)][-1] for name, worker in workers.items()}
        repeats = {name: max(round(TURN / each), 1) for name, each in once.items()}
        seconds: dict[str, list[float]] = {name: [] for name in workers}

        for index in range(rounds):
            for name in list(workers)[::1 if index % 2 == 0 else -1]:
                seconds[name].append(workers[name].ask(repeats[name])['seconds'])

        return {name: Measured(seconds[name], worker.ask('memory')['bytes'], parameters[name]) for name, worker in workers.items()}
