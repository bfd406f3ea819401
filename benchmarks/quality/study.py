"""Sample efficiency of networks and recipes: all train on one pool of built-in scenes, with the same batches, and are evaluated on others.

python benchmarks/quality/study.py OUT [--arms 'paper' 'sweep prope, muon' ...] [--seeds 0 1 2] [--steps 1000] [--equal-time]

`arms.py` says what is compared. Views are of 32², two are inputs; 16 scenes a step, from a pool of 512. The 128 held-out scenes are in no
pool. All arms take the same steps, or with --equal-time as many as fit into the time of the first one's, with a schedule for so many.
How long a step takes is measured first, the arms taking turns, and kept in `OUT/seconds.json`. A run that is there already is not done
again, and one that was cut off resumes. Writes into OUT a file for each arm and seed, and `curves.png`: PSNR and SSIM against steps, and
against their seconds. Prints a table, with the mean of the seeds and the least and most of them.

`benchmarks/quality/equal_steps` and `equal_time` hold the runs that were done: given as OUT, a study resumes from them. Where the code of an
arm has changed since, its files are to be thrown away first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from arms import ARMS, Arm, Network
from torch import Generator, Tensor
from tqdm import tqdm

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.data import Batch, SyntheticSource, synthetic_scenes
from lvsm_pytorch.evaluation.metrics import baselines, figures, score
from lvsm_pytorch.files import read_tensors, write_json, write_whole
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.training.optim import is_step_accepted, optimizer_of, set_learning_rates
from lvsm_pytorch.training.reproducible import warm_up_mkl

IMAGE_SIZE, INPUTS, VIEWS = 32, 2, 8
POOL, HELD_OUT, BATCH_SIZE = 512, 128, 16
VALIDATIONS = 10
WARM_UP, TURNS = 2, 7


@lru_cache
def scenes(first: int, count: int) -> tuple[Tensor, Cameras]:
    return synthetic_scenes(range(first, first + count), num_views = VIEWS, image_size = IMAGE_SIZE)


def batch_of(images: Tensor, cameras: Cameras, which: Tensor, views: Tensor) -> Batch:
    """Of scenes `which` (b) the views (b n), inputs first, in the frame of the inputs and with the unit of all these scenes."""
    index = which.unsqueeze(1), views
    inputs, targets, _ = normalize_poses(cameras.camera_to_world[index][:, :INPUTS], cameras.camera_to_world[index][:, INPUTS:], unit = SyntheticSource.UNIT)
    assert targets is not None
    return Batch(images[index], Cameras(torch.cat((inputs, targets), dim = 1), cameras.intrinsics[index]), [f'scene {number}' for number in which.tolist()], INPUTS)


def training_batch(seed: int, step: int, targets: int) -> Batch:
    """The same for all arms, but that some have more of a scene's targets."""
    generator = Generator().manual_seed(seed * 1_000_003 + step)
    which = torch.randint(POOL, (BATCH_SIZE,), generator = generator)
    views = torch.rand(BATCH_SIZE, VIEWS, generator = generator).argsort(dim = 1)[:, :INPUTS + targets]
    return batch_of(*scenes(SyntheticSource.FIRST_TRAINING_SEED, POOL), which, views)


@lru_cache
def held_out() -> Batch:
    return batch_of(*scenes(0, HELD_OUT), torch.arange(HELD_OUT), torch.arange(INPUTS + 1).expand(HELD_OUT, -1))


def validate(network: Network) -> dict[str, float]:
    return figures(model = score(network.views(held_out()), held_out().target_images))


def run(arm: Arm, seed: int, steps: int, out: Path, **sizes: int) -> dict[str, Any]:
    """Trains, or resumes, and returns the curve: at each validation, the step and figures."""
    def batch(step: int) -> Batch:
        return training_batch(seed, step, arm.targets)

    path = arm.path(out, seed, steps)
    finished = path.with_suffix('.json')

    if not finished.exists():
        network, found = train(arm, seed, steps, path, batch, validate, image_size = IMAGE_SIZE, validations = VALIDATIONS, seed_folder = out / 'seed', **sizes)
        write_json(finished, dict(found, parameters = sum(p.numel() for p in network.parameters())))
        path.unlink()

    return json.loads(finished.read_text())


def train(
    arm: Arm, seed: int, steps: int, path: Path, batch: Callable[[int], Batch], validate: Callable[[Network], dict[str, float]],
    *, image_size: int, validations: int, seed_folder: Path, **sizes: int,
) -> tuple[Network, dict[str, Any]]:
    """The network after so many steps, with the batch of each, and `validations` of it; in between it is kept in `path`, from where it resumes."""
    torch.manual_seed(seed)
    network = Network(arm, image_size, seed_folder, **sizes)
    recipe = arm.config(steps = steps)
    optimizer = optimizer_of(network, recipe)
    curve: list[dict[str, float]] = []
    skipped, begin = 0, 0

    if path.exists():
        state = read_tensors(path, argument = 'out')
        network.load_state_dict(state['network'])
        optimizer.load_state_dict(state['optimizer'])
        torch.set_rng_state(state['random'])
        curve, skipped, begin = state['curve'], state['skipped'], state['step']

    for step in tqdm(range(begin, steps), initial = begin, total = steps, desc = f'{arm.name}, seed {seed}'):
        set_learning_rates(optimizer, step, recipe)
        skipped += not take_step(network, optimizer, batch(step), recipe)

        if (step + 1) % max(steps // validations, 1) == 0 or step + 1 == steps:
            curve.append(dict(step = step + 1, **validate(network)))
            content = dict(
                network = network.state_dict(), optimizer = optimizer.state_dict(), random = torch.get_rng_state(),
                curve = curve, skipped = skipped, step = step + 1,
            )
            write_whole(path, lambda temporary, content = content: torch.save(content, temporary))

    return network, dict(curve = curve, skipped = skipped)


def take_step(network: Network, optimizer: torch.optim.Optimizer, batch: Batch, recipe: TrainConfig) -> bool:
    """Whether it was taken."""
    network(batch, loss = True).backward()
    norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.max_grad_norm))
    is_taken = is_step_accepted(norm, recipe)

    if is_taken:
        optimizer.step()

    optimizer.zero_grad()
    return is_taken


def seconds_a_step(arms: list[Arm], batch: Callable[[Arm], Batch], *, image_size: int, seed_folder: Path, **sizes: int) -> dict[str, float]:
    """Median, the arms taking turns."""
    times: dict[str, list[float]] = {arm.name: [] for arm in arms}
    trained = []

    for arm in arms:
        network, recipe = Network(arm, image_size, seed_folder, **sizes), arm.config()
        trained.append((arm, network, optimizer_of(network, recipe), batch(arm), recipe))

    for turn in range(WARM_UP + TURNS):
        for arm, network, optimizer, views, recipe in trained:
            start = time.perf_counter()
            take_step(network, optimizer, views, recipe)

            if turn >= WARM_UP:
                times[arm.name].append(time.perf_counter() - start)

    return {name: statistics.median(seconds) for name, seconds in times.items()}


def remembered(path: Path, names: list[str], measure: Callable[[list[str]], dict[str, float]]) -> dict[str, float]:
    """Seconds a step of the arms, as they were measured first: a study that resumes keeps its equal times.
    Of arms that come later too, in the seconds of then, of which the others tell.
    """
    known = json.loads(path.read_text()) if path.exists() else {}

    if not set(names) <= set(known):
        measured = measure(sorted({*known, *names}))
        slower_then = statistics.median(known[name] / measured[name] for name in known) if known else 1.
        known = {name: slower_then * each for name, each in measured.items()} | known
        write_json(path, known)

    return {name: known[name] for name in names}


def spread(values: list[float], digits: int) -> str:
    return f'{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})'


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    rows = [f'{"":36} {"million":>7} {"s/step":>7} {"steps":>6}  {"PSNR, dB":24} SSIM']

    for name, runs in results.items():
        last = [each['curve'][-1] for each in runs]
        psnr, ssim = spread([point['model_psnr'] for point in last], 2), spread([point['model_ssim'] for point in last], 3)
        skipped = sum(each['skipped'] for each in runs)
        rows.append(f'{name:36} {runs[0]["parameters"] / 1e6:7.2f} {runs[0]["seconds_a_step"]:7.3f} {last[0]["step"]:6}  {psnr:24} {ssim}' + (f', {skipped} steps skipped' if skipped else ''))

    return '\n'.join(rows)


def picture(path: Path, results: dict[str, list[dict[str, Any]]], baselines: dict[str, dict[str, float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize = (13, 10), layout = 'constrained')
    panels = figure.subplots(2, 2, sharex = 'col', sharey = 'row')
    labels = dict(psnr = f'PSNR of {HELD_OUT} held-out scenes, dB', ssim = f'SSIM of {HELD_OUT} held-out scenes')

    for (kind, label), row in zip(labels.items(), panels, strict = True):
        for against, panel in zip(('step', 'seconds'), row, strict = True):
            for color, (name, runs) in enumerate(results.items()):
                for index, each in enumerate(runs):
                    steps, values = ([point[key] for point in each['curve']] for key in ('step', f'model_{kind}'))
                    at = steps if against == 'step' else [step * each['seconds_a_step'] for step in steps]
                    panel.plot(at, values, color = f'C{color}', linestyle = '-' if color < 10 else '--', linewidth = 1.1, label = name if index == 0 else None)

            panel.set(xlabel = against, ylabel = label)

            for name, found in baselines.items():
                panel.axhline(found[kind], color = 'grey', linewidth = 0.8)
                panel.annotate(name, (0.01, found[kind]), xycoords = ('axes fraction', 'data'), fontsize = 8, va = 'bottom')

    panels[0, 0].legend(fontsize = 8)
    write_whole(path, lambda temporary: figure.savefig(temporary, format = 'png', dpi = 120))


def main() -> None:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('out', type = Path)
    parser.add_argument('--arms', nargs = '+', choices = list(ARMS), default = list(ARMS))
    parser.add_argument('--seeds', nargs = '+', type = int, default = [0, 1, 2])
    parser.add_argument('--steps', type = int, default = 1000)
    parser.add_argument('--equal-time', action = 'store_true')
    arguments = parser.parse_args()
    arguments.out.mkdir(parents = True, exist_ok = True)
    warm_up_mkl()

    def measure(names: list[str]) -> dict[str, float]:
        arms = [ARMS[name] for name in names]
        return seconds_a_step(arms, lambda arm: training_batch(0, 0, arm.targets), image_size = IMAGE_SIZE, seed_folder = arguments.out / 'seed')

    seconds = remembered(arguments.out / 'seconds.json', arguments.arms, measure)
    first = seconds[arguments.arms[0]]
    steps = {name: round(arguments.steps * first / each) if arguments.equal_time else arguments.steps for name, each in seconds.items()}

    found = figures(**baselines(held_out())._asdict())
    labels = {'better input, copied': 'copy', 'blurred mean of the inputs': 'blur'}
    means = {label: {kind: found[f'{name}_{kind}'] for kind in ('psnr', 'ssim')} for label, name in labels.items()}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.arms}

    for seed in arguments.seeds:
        for name in arguments.arms:
            results[name].append(dict(run(ARMS[name], seed, steps[name], arguments.out), seconds_a_step = seconds[name]))

        picture(arguments.out / 'curves.png', results, means)

    print('; '.join(f'{name}: {found["psnr"]:.2f} dB' for name, found in means.items()))
    print(table(results))
    print(f'{arguments.out / "curves.png"} has the curves')


if __name__ == '__main__':
    torch.set_flush_denormal(True)  # as `lvsm train` does
    main()
