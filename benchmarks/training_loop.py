"""What the training loop costs beside the bare model: seconds of a step of `lvsm train`, data included, and of the model and its optimizer alone.

python benchmarks/training_loop.py [--config demo] [--rounds 5]

The bare step is forward, backward and AdamW on one batch that is there already. Both take turns in one process, the loop as
a run of its own each time, whose first steps are left out. Prints the medians, and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import load_config
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.training.logging import read_metrics
from lvsm_pytorch.training.loop import train
from lvsm_pytorch.training.optim import optimizer_of
from lvsm_pytorch.training.runs import model_of, source_of

WARM_UP, STEPS = 60, 40  # of synthetic scenes, the first steps render more of them than later ones


def bare_step(config: TrainConfig) -> Callable[[], None]:
    device = pick_device(config.device)
    model = model_of(config).to(device)
    optimizer = optimizer_of(model, config)
    source = source_of(config)
    batch = source.training_batch(0, config.batch_size).to(device)
    arguments = batch.arguments()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled = config.bf16):
            loss = model(**arguments, target_images = batch.target_images)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def seconds_of_bare_steps(step: Callable[[], None]) -> list[float]:
    times = []

    for _ in range(10 + STEPS):
        start = time.monotonic()
        step()
        times.append(time.monotonic() - start)

    return times[10:]


def seconds_of_a_run(config: TrainConfig) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / 'run'
        train(replace(config, out = run))
        seconds = [record['seconds'] for record in read_metrics(run)]

    return [later - earlier for earlier, later in zip(seconds[WARM_UP - 1:], seconds[WARM_UP:], strict = False)]


def main() -> None:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('--config', default = 'demo')
    parser.add_argument('--data', type = Path)
    parser.add_argument('--workers', type = int)
    parser.add_argument('--rounds', type = int, default = 5)
    arguments = parser.parse_args()

    config = replace(load_config(arguments.config), data = arguments.data, workers = arguments.workers, pose_frame = 'inputs', log_every = 1)
    config = replace(config, steps = WARM_UP + STEPS, evaluate_every = 10 ** 6, save_every = 10 ** 6)
    step = bare_step(config)
    bare, loop = [], []

    for _ in range(arguments.rounds):
        bare += seconds_of_bare_steps(step)
        loop += seconds_of_a_run(config)

    print(f'\nbare step {statistics.median(bare):.4f} s, in the loop {statistics.median(loop):.4f} s: {statistics.median(loop) / statistics.median(bare):.3f} times, with {torch.get_num_threads()} threads')


if __name__ == '__main__':
    main()
