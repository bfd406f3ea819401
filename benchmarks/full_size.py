"""The paper's full network (24 layers, 768 wide, 256², two inputs, one target) with random weights, against the plain reference of the tests.

python benchmarks/full_size.py
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))

from conftest import known_cameras
from plain_lvsm import plain_lvsm, random_weights

from lvsm_pytorch import LVSM, plucker_rays

SIZE = (256, 256)

torch.manual_seed(0)
weights = random_weights(dim = 768, dim_head = 64, depth = 24, patch_size = 8)
model = LVSM.from_official(weights)
images = torch.rand(1, 2, 3, *SIZE)
cameras = known_cameras(1, 3, size = SIZE)
rays = plucker_rays(*cameras, image_size = SIZE)

with torch.no_grad():
    model(images, rays[:, :2], rays[:, 2])
    start = time.perf_counter()
    view = model(images, rays[:, :2], rays[:, 2])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20

    def origin_and_direction(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        direction = rays[0, index, :3]
        return cameras.camera_to_world[0, index, :3, 3].view(3, 1, 1).expand_as(direction), direction

    start = time.perf_counter()
    plain = plain_lvsm(weights, images[0], [origin_and_direction(0), origin_and_direction(1)], origin_and_direction(2), 8)
    plain_seconds = time.perf_counter() - start

print(f'largest difference {(view[0] - plain).abs().max():.1e} between views with standard deviation {view.std():.2f}')
print(f'library {seconds:.2f} s, plain reference {plain_seconds:.2f} s, on {torch.get_num_threads()} threads')
print(f'peak memory of the process {peak:.2f} GiB, of which weights (twice: theirs and ours) {2 * sum(w.numel() for w in weights.values()) * 4 / 2 ** 30:.2f} GiB')
