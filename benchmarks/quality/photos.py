"""The same on real photos: one model for all sets of posed photos in a folder, each arm trained for equal time, judged by held-out views.

python benchmarks/quality/photos.py OUT --data DIR [--arms 'paper, 2e-3' '0.1.6, 2e-3' 'cacheable sweep prope, muon'] [--minutes 10] [--seed 0]

DIR: folders of posed photos, each one scene. Every eighth view of each by name is held out, rendered from the two nearest training views.
Equal time is a number of steps, by the seconds of a step as measured at the start, the arms taking turns. A run that is there already is
not done again, and one that was cut off resumes. Writes into OUT a file for each arm, `results.json`, and a picture for each arm, of held-out
views of every set. Prints PSNR and SSIM for each set and all views, beside the better input copied and the blurred mean of the inputs.
"""

from __future__ import annotations

import argparse
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from arms import ARMS, Arm, Network
from study import remembered, seconds_a_step, train
from torch import Generator, Tensor

from lvsm_pytorch.data import Batch, SceneSource, open_dataset
from lvsm_pytorch.evaluation.metrics import Score, baselines, score
from lvsm_pytorch.evaluation.pictures import save_comparison
from lvsm_pytorch.files import write_json
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.training.reproducible import warm_up_mkl

SIZES = dict(dim = 256, depth = 4, dim_head = 64, patch_size = 8)
IMAGE_SIZE, INPUTS, BATCH_SIZE = 64, 2, 16
VALIDATIONS = 5
COMPARED = ('paper', 'paper, 2e-3', '0.1.6', '0.1.6, 2e-3', 'cacheable sweep prope, muon')


class Photos:
    """All scenes as one pool, in the frame of each sample's inputs and the unit of its scene."""

    def __init__(self, folder: Path):
        dataset = open_dataset(folder)
        scenes = [dataset[index] for index in range(len(dataset))]
        self.sources = {scene.name: SceneSource(scene, num_inputs = INPUTS, num_targets = 1, image_size = IMAGE_SIZE, frame = 'inputs') for scene in scenes}

    def training_batch(self, seed: int, step: int) -> Batch:
        """Of scenes drawn by how many views they have; the same for all arms."""
        sources = list(self.sources.values())
        generator = Generator().manual_seed(seed * 1_000_003 + step)
        which = torch.multinomial(torch.tensor([float(source.num_training) for source in sources]), BATCH_SIZE, replacement = True, generator = generator)
        samples = [sources[index].sample((seed * 1_000_003 + step) * BATCH_SIZE + place) for place, index in enumerate(which.tolist())]
        return sources[0].collate(samples)

    @cached_property
    def held_out(self) -> dict[str, Batch]:
        return {name: source.held_out() for name, source in self.sources.items()}


class Found(NamedTuple):
    """psnr and ssim by set, and of all views."""
    psnr: dict[str, float]
    ssim: dict[str, float]


def found(scores: dict[str, Score]) -> Found:
    together = Score(*(torch.cat(each) for each in zip(*scores.values(), strict = True)))
    means = {name: each.means() for name, each in (*scores.items(), ('all', together))}
    return Found({name: psnr for name, (psnr, _) in means.items()}, {name: ssim for name, (_, ssim) in means.items()})


def views_of(network: Network, photos: Photos) -> dict[str, Tensor]:
    return {name: network.views(batch) for name, batch in photos.held_out.items()}


def judged(views: dict[str, Tensor], photos: Photos) -> Found:
    return found({name: score(views[name], batch.target_images) for name, batch in photos.held_out.items()})


def some_of_each(batches: dict[str, Batch], views: dict[str, Tensor]) -> tuple[Batch, Tensor]:
    """The first held-out view of every set."""
    first = [batch.samples(slice(1)) for batch in batches.values()]
    names = [f'{name}/{batch.names[0]}' for name, batch in batches.items()]
    images, cameras = torch.cat([batch.images for batch in first]), Cameras.cat([batch.cameras for batch in first])
    return Batch(images, cameras, names, INPUTS), torch.cat([views[name][:1] for name in batches])


def table(results: dict[str, Found]) -> str:
    sets = list(next(iter(results.values())).psnr)
    rows = [f'{"PSNR, dB / SSIM":30}' + ''.join(f'{name:>16}' for name in sets)]
    rows += [f'{name:30}' + ''.join(f'{each.psnr[key]:9.2f} /{each.ssim[key]:5.3f}' for key in sets) for name, each in results.items()]
    return '\n'.join(rows)


def run(arm: Arm, seed: int, steps: int, photos: Photos, out: Path, **sizes: int) -> Found:
    """Trains, or resumes; draws, and evaluates."""
    path = arm.path(out, seed, steps)

    def validate(network: Network) -> dict[str, float]:
        found = judged(views_of(network, photos), photos)
        return dict(model_psnr = found.psnr['all'], model_ssim = found.ssim['all'])

    def batch(step: int) -> Batch:
        return photos.training_batch(seed, step)

    network, _ = train(arm, seed, steps, path, batch, validate, image_size = IMAGE_SIZE, validations = VALIDATIONS, seed_folder = out / 'seed', **{**SIZES, **sizes})
    views = views_of(network, photos)
    save_comparison(path.with_suffix('.png'), *some_of_each(photos.held_out, views))
    return judged(views, photos)


def main() -> None:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('out', type = Path)
    parser.add_argument('--data', type = Path, required = True)
    parser.add_argument('--arms', nargs = '+', choices = [name for name, arm in ARMS.items() if arm.targets == 1], default = list(COMPARED))
    parser.add_argument('--minutes', type = float, default = 10.)
    parser.add_argument('--seed', type = int, default = 0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents = True, exist_ok = True)
    warm_up_mkl()

    photos = Photos(arguments.data)
    arms = [ARMS[name] for name in arguments.arms]

    def measure(names: list[str]) -> dict[str, float]:
        batch = photos.training_batch(0, 0)
        return seconds_a_step([ARMS[name] for name in names], lambda arm: batch, image_size = IMAGE_SIZE, seed_folder = arguments.out / 'seed', **SIZES)

    seconds = remembered(arguments.out / 'seconds.json', arguments.arms, measure)
    steps = {name: round(arguments.minutes * 60 / each) for name, each in seconds.items()}

    guessed = {name: baselines(batch) for name, batch in photos.held_out.items()}
    results = {
        'better input, copied': found({name: each.copy for name, each in guessed.items()}),
        'blurred mean of the inputs': found({name: each.blur for name, each in guessed.items()}),
    }

    for arm in arms:
        results[f'{arm.name} ({steps[arm.name]} steps)'] = run(arm, arguments.seed, steps[arm.name], photos, arguments.out)
        told = dict(minutes = arguments.minutes, threads = torch.get_num_threads(), results = {name: each._asdict() for name, each in results.items()})
        write_json(arguments.out / 'results.json', told)

    print(table(results))
    print(f'{arguments.out}/*.png have the views')


if __name__ == '__main__':
    torch.set_flush_denormal(True)  # as `lvsm train` does
    main()
