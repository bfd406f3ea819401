"""How much faster a view is painted once its scene is read: the cacheable mode against the paper's, taking turns in one process.

python benchmarks/encode_once.py
"""

from __future__ import annotations

import statistics
import time

import torch

from lvsm_pytorch import LVSM

ROUNDS = 7
SIZE = (128, 128)

torch.manual_seed(0)
paper = LVSM(256, max_image_size = 128, patch_size = 8, depth = 6).eval()
cacheable = LVSM(256, max_image_size = 128, patch_size = 8, depth = 6, input_attends_target = False).eval()


def seconds(model: LVSM, scene, target_rays: torch.Tensor) -> float:
    start = time.perf_counter()
    model.render(scene, target_rays)
    return time.perf_counter() - start


print(f'{torch.get_num_threads()} threads, torch {torch.__version__}: seconds a view, median (least to most) of {ROUNDS}')

with torch.no_grad():
    for num_inputs in (2, 4, 8, 16):
        views = torch.rand(1, num_inputs, 3, *SIZE), torch.randn(1, num_inputs, 6, *SIZE)
        target_rays = torch.randn(1, 6, *SIZE)
        models = dict(paper = paper, cacheable = cacheable)
        scenes = {name: model.encode(*views) for name, model in models.items()}
        times: dict[str, list[float]] = {name: [] for name in models}

        for _ in range(ROUNDS + 1):
            for name, model in models.items():
                times[name].append(seconds(model, scenes[name], target_rays))

        kept = {name: each[1:] for name, each in times.items()}  # the first is a warm-up
        medians = {name: statistics.median(each) for name, each in kept.items()}
        spread = ', '.join(f'{name} {medians[name]:.3f} ({min(each):.3f} to {max(each):.3f})' for name, each in kept.items())
        print(f'{num_inputs:2} inputs: {spread}: {medians["paper"] / medians["cacheable"]:.1f} times as fast, of {num_inputs + 1} times fewer tokens')
