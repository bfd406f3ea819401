"""What a GPU computes and how fast, in about ten minutes, with nothing to download.

python benchmarks/gpu.py OUT [--seed FOLDER]    # FOLDER: lvsm-pytorch 0.1.6, by `python benchmarks/seed.py FOLDER`; left out without it
python benchmarks/gpu.py OUT --scale toy --device cpu

parts: agreement (with float64 on the CPU, the plain reference, the authors' network), speed (a training step and rendering, in float32 and
bfloat16, compiled or not, beside 0.1.6, the plain reference and the matrix products alone), growth (time and memory with inputs, targets and
resolution, both modes) and loader (images a second from JPEG files). Each is written into OUT/gpu.json when it is done; a run in the same
folder measures what is missing. OUT/gpu.png is the figure. Exits with 1 where something does not agree. Needs the extra `train`, for
matplotlib.

The share of the rate of matrix products (MFU) is the operations of the network's products a second, by what one large product reaches on the
device in the same precision.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from agreement import checks
from case import Implementation, Work
from conditions import conditions, in_words
from photos_on_disk import write_photos
from pictures import draw_gpu
from products import step_flops
from turns import Machine, take_turns
from worker import seconds_of

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.data import training_views
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.training.runs import source_of

Results = dict[str, Any]


@dataclass(frozen = True)
class Scale:
    """work: the network and its images. rounds: turns of each implementation. product: side of the matrices whose product is the device's rate.
    compiled: with torch.compile too. workers: processes that read images, of so many scenes.
    """
    work: Work
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    sizes: tuple[int, ...]
    rounds: int
    product: int
    compiled: bool
    workers: tuple[int, ...]
    scenes: int


SCALES = {
    'paper-256': Scale(Work('train', dim = 768, depth = 24, size = 256, batch = 1), (2, 4, 8, 16), (1, 2, 4, 8), (128, 256, 512), 3, 8192, True, (0, 4, 8, 16), 16),
    'toy': Scale(Work('train', dim = 32, depth = 1, dim_head = 16, size = 16, batch = 1), (1, 2), (1, 2), (16,), 1, 64, False, (0,), 2),
}

SEED = Implementation('0.1.6', kind = 'seed')
PLAIN = Implementation('plain reference', kind = 'plain')
OURS = Implementation('ours')
CACHEABLE = Implementation('ours, cacheable', cacheable = True)
PRODUCTS = Implementation('products of ours', kind = 'products')


def agreement(scale: Scale, machine: Machine) -> Results:
    found = {}

    for check in checks(torch.device(machine.device)):
        found[check.name] = dict(check._asdict(), holds = check.holds)
        print(f'{check.name:44} {check.difference:.1e}, at most {check.most:.0e}{"" if check.holds else ": DOES NOT HOLD"}', flush = True)

    return found


def speed(scale: Scale, machine: Machine) -> Results:
    """A table for each work and precision, with the share of the matrix product rate."""
    found = {}

    for precision in ('float32', 'bfloat16'):
        rate = product_rate(scale.product, torch.device(machine.device), getattr(torch, precision))
        print(f'one product of {scale.product}² matrices in {precision}: {rate / 1e12:.1f} TFLOP/s')

        for job in ('train', 'render'):
            work = replace(scale.work, job = job)
            lines = [*([SEED] if machine.seed_folder.is_dir() else []), PLAIN, OURS, CACHEABLE, PRODUCTS]
            lines += [replace(each, name = f'{each.name}, compiled', compile = True) for each in (OURS, CACHEABLE) if scale.compiled]
            title = f'{job}, {precision}'
            found[title] = in_turns(title, work, [replace(each, bfloat16 = precision == 'bfloat16') for each in lines], machine, scale.rounds)

            for line in lines:
                if line.kind in ('ours', 'products') and 'median' in found[title][line.name]:
                    found[title][line.name]['mfu'] = step_flops(work, cacheable = line.cacheable, depth = work.depth) / found[title][line.name]['median'] / rate

    return found


def growth(scale: Scale, machine: Machine) -> Results:
    """In bfloat16. Where there is too little memory, the point has no figures but `failed`."""
    found = {}

    for job in ('train', 'render'):
        for axis in ('inputs', 'targets', 'size'):
            for value in getattr(scale, axis if axis != 'size' else 'sizes'):
                title = f'{job} {axis} {value}'
                work = replace(scale.work, job = job, **{axis: value})
                found[title] = in_turns(title, work, [replace(each, bfloat16 = True) for each in (OURS, CACHEABLE)], machine, scale.rounds)

    return found


def loader(scale: Scale, machine: Machine) -> Results:
    """Images a second that a training step gets, resized from JPEG files of twice the size and a half, by processes that read them."""
    size, inputs, targets = scale.work.size, 2, 6
    found = {}

    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), scenes = scale.scenes, views = 24, size = (5 * size // 2, 5 * size // 2))
        source = source_of(TrainConfig(data = Path(folder), num_inputs = inputs, num_targets = targets, image_size = size))

        for workers in scale.workers:
            batches = 2 + 4 * max(workers, 1)
            views = training_views(source, range(4 * batches), batch_size = 4, workers = workers, pin_memory = machine.device.startswith('cuda'))
            next(views)  # processes have started
            start = time.perf_counter()
            count = sum(batch.images.shape[0] * batch.images.shape[1] for batch in views)
            found[str(workers)] = dict(images_per_second = count / (time.perf_counter() - start))
            print(f'{workers} workers: {found[str(workers)]["images_per_second"]:.0f} images/s', flush = True)

    return found


PARTS: dict[str, Callable[[Scale, Machine], Results]] = dict(agreement = agreement, speed = speed, growth = growth, loader = loader)


def in_turns(title: str, work: Work, implementations: list[Implementation], machine: Machine, rounds: int) -> Results:
    """Medians, seconds of the rounds, bytes and parameters, by name. What does not fit beside the others is measured alone, and what does not fit alone has `failed`."""
    try:
        measured = take_turns(work, implementations, machine, rounds = rounds)
    except RuntimeError as error:  # out of memory is one
        if len(implementations) > 1:
            return {name: each for one in implementations for name, each in in_turns(title, work, [one], machine, rounds).items()}

        print(f'{title}: {implementations[0].name} failed: {error}', flush = True)
        return {implementations[0].name: dict(failed = str(error).split('\n')[0])}

    for name, each in measured.items():
        print(f'{title}: {name:32} {each.median * 1e3:9.2f} ms {each.bytes / 2 ** 20:8.0f} MiB', flush = True)

    return {name: dict(asdict(each), median = each.median) for name, each in measured.items()}


def product_rate(side: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of one product of square matrices, at its best of five."""
    a, b = (torch.randn(side, side, device = device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def step() -> None:
        torch.matmul(a, b, out = out)

    step()
    return 2 * side ** 3 / min(seconds_of(step, 4, device) for _ in range(5))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('out', type = Path)
    parser.add_argument('--device', default = 'auto')
    parser.add_argument('--scale', choices = list(SCALES), default = 'paper-256')
    parser.add_argument('--parts', nargs = '+', choices = list(PARTS), default = list(PARTS))
    parser.add_argument('--seed', type = Path, default = Path('no-seed'), help = 'where lvsm-pytorch 0.1.6 is installed')
    options = parser.parse_args(arguments)

    device = pick_device(options.device)
    machine = Machine(str(device), [], options.seed.resolve(), in_process = True)
    scale = SCALES[options.scale]
    options.out.mkdir(parents = True, exist_ok = True)
    written = options.out / 'gpu.json'
    content = json.loads(written.read_text(encoding = 'utf-8')) if written.exists() else {}
    measured_on = dict(conditions(device, threads = torch.get_num_threads(), precision = ['float32', 'bfloat16']), scale = options.scale)

    if content.setdefault('conditions', measured_on) != measured_on:
        raise SystemExit(f'{written} is of other conditions, {content["conditions"]}: choose another folder')

    print(in_words(measured_on), flush = True)

    for part in options.parts:
        if part not in content:
            content[part] = PARTS[part](scale, machine)
            written.write_text(json.dumps(content, indent = 1), encoding = 'utf-8')

    draw_gpu(content, options.out / 'gpu.png', in_words(measured_on))
    print(f'{options.out / "gpu.png"} is drawn')
    return int(not all(each['holds'] for each in content.get('agreement', {}).values()))


if __name__ == '__main__':
    sys.exit(main())
