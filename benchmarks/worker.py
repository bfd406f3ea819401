"""One implementation in a process of its own: does its work on request, and reports how long it took. Started by `compare.py`.

A line of JSON in says what to do, at the start and then `memory`, or how often to do the work; a line of JSON out says how it went.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from case import Implementation, Work

ROOT = Path(__file__).parents[1]


def main() -> None:
    sys.stdout, answers = sys.stderr, sys.stdout  # what libraries print is no answer

    def answer(**values) -> None:
        print(json.dumps(values), file = answers, flush = True)

    told = json.loads(sys.stdin.readline())

    if told['cores']:
        os.sched_setaffinity(0, told['cores'])

    import torch
    from memory import ProcessMemory

    torch.set_num_threads(told['threads'])
    torch.manual_seed(0)
    device = torch.device(told['device'])
    work, implementation = Work(**told['work']), Implementation(**told['implementation'])
    step, parameters = prepare(work, implementation, device, Path(told['seed_folder']))
    memory = ProcessMemory(device)
    answer(parameters = parameters, torch = torch.__version__, device = str(device))

    for line in sys.stdin:
        asked = json.loads(line)

        if asked == 'memory':
            answer(bytes = memory.peak())
            continue

        answer(seconds = seconds_of(step, asked, device))


def seconds_of(step: Callable[[], object], times: int, device) -> float:
    """Of one step, in the mean of so many."""
    start = time.perf_counter()

    for _ in range(times):
        step()

    if device.type == 'cuda':
        import torch

        torch.cuda.synchronize(device)

    return (time.perf_counter() - start) / times


def prepare(work: Work, implementation: Implementation, device, seed_folder: Path) -> tuple[Callable[[], object], int]:
    """A function that does the work once, and how many parameters the network has."""
    import torch

    b, v, t, side = work.batch, work.inputs, work.targets, work.size
    images, target_images = torch.rand(b, v, 3, side, side, device = device), torch.rand(b, t, 3, side, side, device = device)
    rays, target_rays = torch.randn(b, v, 6, side, side, device = device), torch.randn(b, t, 6, side, side, device = device)
    depth = implementation.depth or work.depth

    if implementation.kind == 'products':
        from products import all_products

        dtype = torch.bfloat16 if implementation.bfloat16 else torch.float32
        return all_products(work, cacheable = implementation.cacheable, depth = depth, dtype = dtype, device = device), 0

    if implementation.kind == 'plain':
        return plain(work, implementation, images, rays, target_images, target_rays), 0

    if implementation.kind == 'seed':
        with device:
            model = seed_library(seed_folder).LVSM(
                work.dim, max_image_size = side, patch_size = work.patch_size, depth = depth,
                heads = work.heads, dim_head = work.dim_head, perceptual_loss_weight = 0,
            )

        # it has one target a scene: a scene with several is several scenes

        images, rays = (each.repeat_interleave(t, dim = 0) for each in (images, rays))
        target_images, target_rays = target_images.flatten(0, 1), target_rays.flatten(0, 1)
    else:
        sys.path.insert(0, str(ROOT))
        from lvsm_pytorch import LVSM
        from lvsm_pytorch.allocator import tune_malloc

        tune_malloc()  # as the command does

        with device:
            model = LVSM(
                work.dim, max_image_size = side, patch_size = work.patch_size, depth = depth,
                heads = work.heads, dim_head = work.dim_head, input_attends_target = not implementation.cacheable,
                gradient_checkpointing = implementation.checkpointing, decoder_kwargs = {} if implementation.flash else dict(attn_flash = False),
            )

    parameters = sum(p.numel() for p in model.parameters())
    model.train(work.job == 'train')

    def autocast():
        return torch.autocast(device.type, torch.bfloat16, enabled = implementation.bfloat16)

    if work.job == 'train':
        run = torch.compile(model) if implementation.compile else model

        def train() -> None:
            model.zero_grad()

            with autocast():
                loss = run(images, rays, target_rays, target_images)

            loss.backward()

        return train, parameters

    if implementation.kind == 'ours' and implementation.cacheable:
        with torch.no_grad(), autocast():
            scene = model.encode(images, rays)

        function = torch.compile(model.render) if implementation.compile else model.render
        arguments = (scene, target_rays)
    else:
        function = torch.compile(model) if implementation.compile else model
        arguments = (images, rays, target_rays)

    def render() -> None:
        with torch.no_grad(), autocast():
            function(*arguments)

    return render, parameters


def seed_library(folder: Path) -> ModuleType:
    """lvsm-pytorch 0.1.6, which has the name of ours, from the folder where it was installed."""
    sys.path.insert(0, str(folder))

    try:
        import torchvision  # noqa: F401
    except ImportError:
        sys.modules['torchvision'] = ModuleType('torchvision')  # it is for the perceptual loss, which is off, and for nothing else

    import lvsm_pytorch

    assert lvsm_pytorch.__file__ is not None
    assert Path(lvsm_pytorch.__file__).is_relative_to(folder), f'{lvsm_pytorch.__file__} is not of {folder}'
    return lvsm_pytorch


def plain(work: Work, implementation: Implementation, images, rays, target_images, target_rays) -> Callable[[], None]:
    import torch

    sys.path.insert(0, str(ROOT / 'tests'))
    from plain_lvsm import plain_lvsm, random_weights

    weights = {name: weight.to(images.device) for name, weight in random_weights(dim = work.dim, dim_head = work.dim_head, depth = work.depth, patch_size = work.patch_size).items()}

    def origin_and_direction(rays):
        return rays[3:], rays[:3]

    def render(scene: int, target: int):
        return plain_lvsm(weights, images[scene], [origin_and_direction(each) for each in rays[scene]], origin_and_direction(target_rays[scene, target]), work.patch_size)

    def run() -> None:
        with torch.set_grad_enabled(work.job == 'train'), torch.autocast(images.device.type, torch.bfloat16, enabled = implementation.bfloat16):
            for weight in weights.values():
                weight.grad = None
                weight.requires_grad_(work.job == 'train')

            for scene in range(work.batch):
                for target in range(work.targets):
                    view = render(scene, target)

                    if work.job == 'train':
                        (view - target_images[scene, target]).square().mean().backward()

    return run


if __name__ == '__main__':
    main()
