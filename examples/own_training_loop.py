"""A training loop of your own, with the model alone: python examples/own_training_loop.py [STEPS]"""

import sys

import torch

from lvsm_pytorch import LVSM, plucker_rays
from lvsm_pytorch.data import synthetic_scenes
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.lvsm.losses import psnr

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
INPUTS, TARGETS, SIZE = 2, 2, 32

torch.manual_seed(0)
device = 'cuda' if torch.cuda.is_available() else 'cpu'
model = LVSM(dim = 128, max_image_size = SIZE, patch_size = 4, depth = 4, input_attends_target = False).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr = 1e-3, betas = (0.9, 0.95), weight_decay = 0.05)


def batch(seeds):
    """Your data: posed images (b v 3 h w) in [0, 1], camera to world (b v 4 4) in OpenCV axes, intrinsics (b v 3 3) in pixels."""
    images, cameras = synthetic_scenes(seeds, num_views = INPUTS + TARGETS, image_size = SIZE)
    inputs, targets, _ = normalize_poses(cameras.camera_to_world[:, :INPUTS], cameras.camera_to_world[:, INPUTS:], unit = 3.)
    rays = plucker_rays(torch.cat((inputs, targets), dim = 1), cameras.intrinsics, (SIZE, SIZE))
    views = images[:, :INPUTS], rays[:, :INPUTS], rays[:, INPUTS:], images[:, INPUTS:]
    return [each.to(device) for each in views]


held_out = batch(range(16))

for step in range(STEPS + 1):
    if step % 50 == 0 or step == STEPS:
        with torch.no_grad():
            print(f'step {step}: {psnr(model(*held_out[:3]), held_out[3]).mean():.2f} dB on scenes that it was not trained on')

    for group in optimizer.param_groups:
        group['lr'] = 1e-3 * min(1, (step + 1) / 20) * (1 - step / (STEPS + 1))

    loss = model(*batch(range(1000 + 16 * (step % 32), 1016 + 16 * (step % 32))))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
    optimizer.step()
