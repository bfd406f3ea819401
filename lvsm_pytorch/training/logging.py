"""Logging of a run: a progress bar, metrics.jsonl, TensorBoard, Weights & Biases."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import config_to_yaml
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.training.checkpoint import Progress

METRICS = 'metrics.jsonl'


class Step(NamedTuple):
    """Metrics of a training step.

    Attributes:
        loss: Mean loss of the samples.
        error: Mean squared error of the samples.
        gradient_norm: Norm of the gradients before clipping.
        learning_rate: Learning rate of AdamW.
        seconds: Duration of the step, data loading included.
    """
    loss: float
    error: float
    gradient_norm: float
    learning_rate: float
    seconds: float


class Log:
    """Context manager that logs a run. Only the main process writes.

    Args:
        progress: Progress of the run. Records of later steps, left by an interruption, are removed.
    """

    def __init__(self, config: TrainConfig, progress: Progress, *, is_main: bool):
        self.config = config
        self.is_main = is_main
        self.first_step = progress.step
        self.path = config.out / METRICS
        self.trackers = trackers_of(config, progress) if is_main else []
        self.steps: list[Step] = []  # since the last record
        self.held_out_psnr: float | None = None

    def __enter__(self) -> Log:
        from tqdm import tqdm

        if self.is_main:
            truncate_metrics(self.path, self.first_step or -1)    # a new run has no record, not even of its initial weights
            self.file = open(self.path, 'a', encoding = 'utf-8')

        for tracker in self.trackers:
            tracker.start()

        self.bar = tqdm(total = self.config.steps, initial = self.first_step, unit = 'step', dynamic_ncols = True, disable = not self.is_main)
        return self

    def step(self, progress: Progress, step: Step) -> None:
        """Logs a finished step to the progress bar."""
        self.steps.append(step)
        mean = self.mean()
        shown = [f'loss {mean.loss:.4f}', f'psnr {psnr_of(mean.error):.2f}', f'{self.num_targets / mean.seconds:.1f} views/s']  # fits in 80 columns

        if progress.skipped > 0:
            shown.insert(0, f'{progress.skipped} skipped')

        if self.held_out_psnr is not None:
            shown.append(f'held out {self.held_out_psnr:.2f}')

        self.bar.set_postfix_str(', '.join(shown), refresh = False)
        self.bar.update()

    def record(self, progress: Progress, found: dict[str, float]) -> None:
        """Writes a record with means over the steps since the last one.

        Args:
            found: Metrics of a validation; empty without one.
        """
        values = dict(self.of_steps(), skipped = progress.skipped, seconds = round(progress.seconds, 4), **found)
        self.steps = []
        self.held_out_psnr = found.get('model_psnr', self.held_out_psnr)

        if self.is_main:
            self.file.write(json.dumps(dict(step = progress.step, **values)) + '\n')
            self.file.flush()

        for tracker in self.trackers:
            tracker.log(values, step = progress.step)

            if found:
                log_picture(tracker, self.config.out / 'comparison.png', progress.step)

    def of_steps(self) -> dict[str, float]:
        if not self.steps:
            return {}

        mean = self.mean()
        return dict(
            loss = mean.loss,
            psnr = psnr_of(mean.error),
            learning_rate = self.steps[-1].learning_rate,
            gradient_norm = self.steps[-1].gradient_norm,
            views_per_second = round(self.num_targets / mean.seconds, 2),
        )

    def mean(self) -> Step:
        return Step(*(sum(each) / len(self.steps) for each in zip(*self.steps, strict = True)))

    @property
    def num_targets(self) -> int:
        """Number of target views in a step."""
        return self.config.batch_size * self.config.num_targets

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.bar.close()

        for tracker in self.trackers:
            tracker.finish()

        if self.is_main:
            self.file.close()


def psnr_of(error: float) -> float:
    """PSNR in dB of a mean squared error; infinite for 0."""
    return -10 * math.log10(error) if error > 0 else math.inf


def check_trackers(config: TrainConfig) -> None:
    """Checks that the trackers of the config are installed.

    Raises:
        ImportError: If one is not installed.
    """
    for name, is_wanted in dict(tensorboard = config.tensorboard, wandb = config.wandb).items():
        if is_wanted and find_spec(name) is None:
            raise ImportError(f'{name} is not installed: pip install {name}, or leave it out by --no-{name}')


def trackers_of(config: TrainConfig, progress: Progress) -> list[Any]:
    """Trackers of accelerate for TensorBoard and Weights & Biases."""
    import yaml
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    trackers: list[Any] = []

    if config.tensorboard:
        trackers.append(TensorBoardTracker('tensorboard', config.out, purge_step = progress.step + 1))

    if config.wandb:
        trackers.append(WandBTracker('lvsm', name = config.out.name, dir = str(config.out), id = progress.run_id, resume = 'allow', config = yaml.safe_load(config_to_yaml(config))))

    return trackers


def log_picture(tracker: Any, path: Path, step: int) -> None:
    """Logs the comparison image of the held-out views."""
    import numpy
    from PIL import Image

    with Image.open(path) as file:
        pixels = numpy.asarray(file.convert('RGB'))[None]

    tracker.log_images(dict(held_out = pixels), step = step, **(dict(dataformats = 'NHWC') if tracker.name == 'tensorboard' else {}))


def truncate_metrics(path: Path, step: int) -> None:
    """Removes records after a step, and a last one that was not written completely."""
    if not path.exists():
        return

    def is_kept(line: str) -> bool:
        try:
            return json.loads(line)['step'] <= step
        except ValueError:
            return False

    kept = ''.join(f'{line}\n' for line in path.read_text(encoding = 'utf-8').splitlines() if is_kept(line))
    write_whole(path, lambda temporary: temporary.write_text(kept, encoding = 'utf-8'))


def read_metrics(run: Path) -> list[dict[str, float]]:
    """Records of a run, in order."""
    return [json.loads(line) for line in (run / METRICS).read_text(encoding = 'utf-8').splitlines()]
