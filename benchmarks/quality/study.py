"""Which network sees sooner, and which recipe: all learn from one pool of built-in scenes, with the same batches, and are judged by others.

python benchmarks/quality/study.py OUT [--arms 'paper' 'prope' ...] [--seeds 0 1 2] [--steps 2000]

`arms.py` says what is compared. Views are of 32², two are seen; 16 scenes a step, from a pool of 512. The 128 held-out scenes are in no
pool. A run that is there already is not done again, and one that was cut off goes on. Writes into OUT a file for each arm and seed,
`results.json`, and `curves.png`: PSNR against steps, and against the seconds of the steps. Prints a table, with the mean of the seeds
and the least and most of them, of what was reached at equal steps, and in the seconds of the first arm.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from arms import ARMS, Arm, Network, Optimizers
from torch import Generator, Tensor
from tqdm import tqdm

from lvsm_pytorch.cameras import Cameras, normalize_poses
from lvsm_pytorch.config import TrainConfig
from lvsm_pytorch.data import Batch, SyntheticSource, Views, synthetic_scenes
from lvsm_pytorch.evaluate import figures, guesses, score
from lvsm_pytorch.files import read_tensors, write_whole
from lvsm_pytorch.recipe import is_worth_taking, learning_rate
from lvsm_pytorch.reproducible import settle_vector_functions

IMAGE_SIZE, INPUTS, VIEWS = 32, 2, 8
POOL, HELD_OUT, BATCH_SIZE = 512, 128, 16
LOOKS = 20


@lru_cache
def scenes(first: int, count: int) -> tuple[Tensor, Cameras]:
    return synthetic_scenes(range(first, first + count), num_views = VIEWS, image_size = IMAGE_SIZE)


def batch_of(images: Tensor, cameras: Cameras, which: Tensor, views: Tensor) -> Batch:
    """Of scenes `which` (b) the views (b n), inputs first, in the frame of the inputs and with the unit of all these scenes."""
    index = which.unsqueeze(1), views
    inputs, targets = normalize_poses(cameras.camera_to_world[index][:, :INPUTS], cameras.camera_to_world[index][:, INPUTS:], unit = SyntheticSource.UNIT)
    assert targets is not None
    return Views(images[index], Cameras(torch.cat((inputs, targets), dim = 1), cameras.intrinsics[index]), [f'scene {number}' for number in which.tolist()]).batch(INPUTS)


def training_batch(seed: int, step: int, targets: int) -> Batch:
    """The same for all arms, but that some have more of a scene's targets."""
    generator = Generator().manual_seed(seed * 1_000_003 + step)
    which = torch.randint(POOL, (BATCH_SIZE,), generator = generator)
    views = torch.rand(BATCH_SIZE, VIEWS, generator = generator).argsort(dim = 1)[:, :INPUTS + targets]
    return batch_of(*scenes(SyntheticSource.FIRST_TRAINING_SEED, POOL), which, views)


@lru_cache
def held_out() -> Batch:
    return batch_of(*scenes(0, HELD_OUT), torch.arange(HELD_OUT), torch.arange(INPUTS + 1).expand(HELD_OUT, -1))


@torch.no_grad()
def look(network: Network) -> dict[str, float]:
    network.eval()
    views = network(held_out(), loss = False)
    network.train()
    return figures(model = score(views, held_out().target_images))


def run(arm: Arm, seed: int, steps: int, out: Path, **sizes: int) -> dict[str, Any]:
    """Trains, or goes on, and returns what it has seen: at each look step, seconds of the steps until then, and figures."""
    path = out / f'{arm.name.replace(", ", "-").replace(" ", "-")}-seed-{seed}-of-{steps}.pt'
    torch.manual_seed(seed)
    network = Network(arm, IMAGE_SIZE, out / 'seed', **sizes)
    optimizers = Optimizers(network, arm)
    recipe = TrainConfig(steps = steps, learning_rate = 1.)  # each optimizer has a highest rate of its own, of which this says the fraction
    curve: list[dict[str, float]] = []
    skipped, seconds, begin = 0, 0., 0

    if path.exists():
        state = read_tensors(path, argument = 'out')
        network.load_state_dict(state['network'])
        optimizers.load_state_dict(state['optimizers'])
        torch.set_rng_state(state['random'])
        curve, skipped, seconds, begin = state['curve'], state['skipped'], state['seconds'], state['step']

    for step in tqdm(range(begin, steps), initial = begin, total = steps, desc = f'{arm.name}, seed {seed}'):
        batch = training_batch(seed, step, arm.targets)
        start = time.perf_counter()
        network(batch, loss = True).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.max_grad_norm))

        if is_worth_taking(norm, recipe):
            optimizers.step(learning_rate(step, recipe))
        else:
            skipped += 1
            network.zero_grad()

        seconds += time.perf_counter() - start

        if (step + 1) % max(steps // LOOKS, 1) == 0 or step + 1 == steps:
            curve.append(dict(step = step + 1, seconds = seconds, **look(network)))
            content = dict(
                network = network.state_dict(), optimizers = optimizers.state_dict(), random = torch.get_rng_state(),
                curve = curve, skipped = skipped, seconds = seconds, step = step + 1,
            )
            write_whole(path, lambda temporary, content = content: torch.save(content, temporary))

    return dict(curve = curve, skipped = skipped, parameters = sum(p.numel() for p in network.parameters()))


def reached(curve: list[dict[str, float]], seconds: float) -> float:
    """PSNR after so many seconds of steps: of the last look before, and where the run ended sooner, at its end."""
    return next((point['model_psnr'] for point in reversed(curve) if point['seconds'] <= seconds), math.nan)


def spread(values: list[float], digits: int) -> str:
    return f'{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})'


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    first = next(iter(results.values()))
    budget = statistics.median(each['curve'][-1]['seconds'] for each in first)
    rows = [f'{"":52} {"million":>7} {"s/step":>7}  {"PSNR, dB":24} {"SSIM":24} in {budget:.0f} s']

    for name, runs in results.items():
        last = [each['curve'][-1] for each in runs]
        per_step = statistics.median(point['seconds'] / point['step'] for point in last)
        psnr, ssim = spread([point['model_psnr'] for point in last], 2), spread([point['model_ssim'] for point in last], 3)
        in_budget = spread([reached(each['curve'], budget) for each in runs], 2)
        skipped = sum(each['skipped'] for each in runs)
        rows.append(f'{name:52} {runs[0]["parameters"] / 1e6:7.2f} {per_step:7.3f}  {psnr:24} {ssim:24} {in_budget}' + (f', {skipped} steps skipped' if skipped else ''))

    return '\n'.join(rows)


def picture(path: Path, results: dict[str, list[dict[str, Any]]], baselines: dict[str, float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize = (13, 5.5), layout = 'constrained')
    axes = dict(zip(('step', 'seconds'), figure.subplots(1, 2, sharey = True), strict = True))

    for color, (name, runs) in enumerate(results.items()):
        for index, each in enumerate(runs):
            for against, panel in axes.items():
                values = [[point[key] for point in each['curve']] for key in (against, 'model_psnr')]
                panel.plot(*values, color = f'C{color}', linestyle = '-' if color < 10 else '--', linewidth = 1.1, label = name if index == 0 else None)

    for against, panel in axes.items():
        panel.set(xlabel = against, ylabel = f'PSNR of {HELD_OUT} held-out scenes, dB')

        for name, value in baselines.items():
            panel.axhline(value, color = 'grey', linewidth = 0.8)
            panel.annotate(name, (0, value), fontsize = 8, va = 'bottom')

    axes['step'].legend(fontsize = 8)
    write_whole(path, lambda temporary: figure.savefig(temporary, format = 'png', dpi = 120))


def main() -> None:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('out', type = Path)
    parser.add_argument('--arms', nargs = '+', choices = list(ARMS), default = list(ARMS))
    parser.add_argument('--seeds', nargs = '+', type = int, default = [0, 1, 2])
    parser.add_argument('--steps', type = int, default = 2000)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents = True, exist_ok = True)
    settle_vector_functions()

    found = figures(**guesses(held_out())._asdict())
    baselines = {'better input, copied': found['copy_psnr'], 'blurred mean of the inputs': found['blur_psnr']}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.arms}

    for seed in arguments.seeds:
        for name in arguments.arms:
            results[name].append(run(ARMS[name], seed, arguments.steps, arguments.out))

        told = dict(threads = torch.get_num_threads(), steps = arguments.steps, baselines = found, results = results)
        write_whole(arguments.out / 'results.json', lambda temporary, told = told: temporary.write_text(json.dumps(told)))
        picture(arguments.out / 'curves.png', results, baselines)

    print('; '.join(f'{name}: {value:.2f} dB' for name, value in baselines.items()))
    print(table(results))
    print(f'look at {arguments.out / "curves.png"}')


if __name__ == '__main__':
    main()
