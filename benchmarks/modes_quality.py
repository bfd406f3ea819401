"""Is the cacheable mode as good as the paper's? Both learn from the built-in scenes, at equal steps and at equal time, with three seeds.

python benchmarks/modes_quality.py OUT

Arms of one seed see the same scenes. Equal time is a number of steps, by the seconds of a training step as measured at the start, the
arms taking turns. A run that is there already is not done again, and one that was cut off goes on. Writes a run for each arm and seed,
`results.json` and `modes_quality.png` into OUT. On one CPU core about an hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from lvsm_pytorch.config import TrainConfig, load_config
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.logs import read_metrics
from lvsm_pytorch.recipe import optimizer_of
from lvsm_pytorch.runs import model_of, source_of
from lvsm_pytorch.train import train

SEEDS = (0, 1, 2)
STEPS = 600
BATCH_SIZE = 8


@dataclass(frozen = True)
class Arm:
    name: str
    input_attends_target: bool
    num_targets: int
    equal: str


ARMS = (
    Arm('paper, 1 target', True, 1, 'steps'),
    Arm('cacheable, 1 target', False, 1, 'steps'),
    Arm('cacheable, 4 targets, equal time', False, 4, 'time'),
    Arm('paper, 4 targets, equal time', True, 4, 'time'),
)


def config_of(arm: Arm, seed: int, steps: int, out: Path) -> TrainConfig:
    return replace(
        load_config('demo'), out = out, steps = steps, batch_size = BATCH_SIZE, seed = seed,
        num_targets = arm.num_targets, input_attends_target = arm.input_attends_target,
    )


def seconds_per_step(rounds: int = 7) -> dict[str, float]:
    """Of the model and the optimizer alone, median, the arms taking turns."""
    steps = {}

    for arm in ARMS:
        config = config_of(arm, 0, STEPS, Path())
        model = model_of(config)
        batch = source_of(config).training_batch(0, BATCH_SIZE)
        steps[arm.name] = (model, optimizer_of(model, config), batch)

    times: dict[str, list[float]] = {name: [] for name in steps}

    for _ in range(rounds + 1):
        for name, (model, optimizer, batch) in steps.items():
            start = time.perf_counter()
            optimizer.zero_grad()
            model(batch.input_images, batch.input_rays, batch.target_rays, batch.target_images).backward()
            optimizer.step()
            times[name].append(time.perf_counter() - start)

    return {name: statistics.median(each[1:]) for name, each in times.items()}


def done(run: Path, steps: int) -> list[dict] | None:
    """What a finished run has logged."""
    try:
        records = read_metrics(run)
    except (OSError, ValueError):
        return None

    return records if records and records[-1]['step'] == steps and 'model_psnr' in records[-1] else None


def picture(path: Path, results: dict) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize = (11, 4.5), layout = 'constrained')
    by_steps, by_time = figure.subplots(1, 2, sharey = True)

    for color, arm in enumerate(ARMS):
        for index, curve in enumerate(results['curves'][arm.name]):
            steps, values = zip(*curve, strict = True)
            style = dict(color = f'C{color}', label = arm.name if index == 0 else None, linewidth = 1.2)
            by_steps.plot(steps, values, **style)
            by_time.plot([step * results['seconds_per_step'][arm.name] for step in steps], values, **style)

    by_steps.set(xlabel = 'steps', ylabel = 'PSNR of held-out views, dB')
    by_time.set(xlabel = 'seconds in the model, as measured at the start')
    by_steps.legend()
    write_whole(path, lambda temporary: figure.savefig(temporary, format = 'png', dpi = 120))


def main() -> None:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('out', type = Path)
    parser.add_argument('--steps', type = int, default = STEPS)
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents = True, exist_ok = True)
    measured = out / 'seconds_per_step.json'

    if not measured.exists():
        seconds = seconds_per_step()
        write_whole(measured, lambda temporary: temporary.write_text(json.dumps(seconds)))

    seconds = json.loads(measured.read_text())
    steps = {arm.name: arguments.steps if arm.equal == 'steps' else round(arguments.steps * seconds[ARMS[0].name] / seconds[arm.name]) for arm in ARMS}
    curves: dict[str, list] = {arm.name: [] for arm in ARMS}
    blur: list[float] = []

    for seed in SEEDS:
        for arm in ARMS:
            run = out / f'{arm.name.replace(", ", "-").replace(" ", "-")}-seed-{seed}'

            if done(run, steps[arm.name]) is None:
                print(f'{arm.name}, seed {seed}: {steps[arm.name]} steps')
                train(config_of(arm, seed, steps[arm.name], run), resume = True)

            records = done(run, steps[arm.name])
            assert records is not None
            curves[arm.name].append([(record['step'], record['model_psnr']) for record in records if 'model_psnr' in record])
            blur.append(records[-1]['blur_psnr'])

    results = dict(arms = [asdict(arm) for arm in ARMS], threads = torch.get_num_threads(), seconds_per_step = seconds, steps = steps, curves = curves, blur = statistics.mean(blur))
    write_whole(out / 'results.json', lambda temporary: temporary.write_text(json.dumps(results)))
    picture(out / 'modes_quality.png', results)

    print(f'\nheld-out PSNR of {len(SEEDS)} seeds, mean (least to most); blurred mean of the inputs {results["blur"]:.2f} dB')

    for name, runs in curves.items():
        last = [curve[-1][1] for curve in runs]
        print(f'{name:34} {steps[name]:5} steps of {seconds[name]:.3f} s: {statistics.mean(last):.2f} dB ({min(last):.2f} to {max(last):.2f})')


if __name__ == '__main__':
    main()
