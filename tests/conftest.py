from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lvsm_pytorch import LVSM
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.rays import plucker_rays
from lvsm_pytorch.geometry.trajectories import look_at
from lvsm_pytorch.training.reproducible import warm_up_mkl

warm_up_mkl()

# the paper's network and optimizer, where the defaults of a training run are those of the demo

PAPER = dict(input_attends_target = True, camera_encoding = 'plucker', num_depth_planes = 0, optimizer = 'adamw')

SHARED = Path(__file__).parents[2] / 'shared'


@pytest.fixture(autouse = True)
def same_random_numbers_in_every_test():
    torch.manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """The reference data that stands beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f'the reference data is missing: {SHARED}')
    return SHARED


class Malicious:
    """Makes a folder when it is unpickled by something that runs what is in a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@contextmanager
def counted_passes(at_most: float = float('inf')) -> Iterator[list[nn.Module]]:
    """The linear layers that are called meanwhile, in order. After `at_most` calls the next one raises KeyboardInterrupt, as Ctrl-C does."""
    called = []

    def count(module, _):
        if isinstance(module, nn.Linear):
            if len(called) >= at_most:
                raise KeyboardInterrupt
            called.append(module)

    handle = nn.modules.module.register_module_forward_pre_hook(count)

    try:
        yield called
    finally:
        handle.remove()


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """No file may be longer meanwhile, which is what a full disk is like."""
    resource = pytest.importorskip('resource')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))

    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def times_of(folder: Path) -> dict[str, int]:
    """When each file was written last."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def tiny_model(**changes) -> LVSM:
    """A model that computes in milliseconds, with weights large enough that every part of it matters."""
    model = LVSM(**{**dict(dim = 32, max_image_size = 32, patch_size = 8, depth = 2, dim_head = 16), **changes})

    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std = weight.shape[1] ** -0.5)
        elif 'norm' in name:
            torch.nn.init.normal_(weight, mean = 1., std = 0.2)

    return model


def known_cameras(*leading: int, size: tuple[int, int] = (16, 24)) -> Cameras:
    """Cameras around the origin that look at it from different sides and distances, with different focal lengths."""
    eye = torch.randn(*leading, 3)
    eye = eye / eye.norm(dim = -1, keepdim = True) * (2 + torch.rand(*leading, 1))
    camera_to_world = look_at(eye, torch.randn(*leading, 3) * 0.1, torch.tensor([0., 0., 1.]))

    height, width = size
    intrinsics = torch.eye(3).repeat(*leading, 1, 1)
    intrinsics[..., 0, 0] = width * (0.8 + 0.4 * torch.rand(leading))
    intrinsics[..., 1, 1] = height * (0.8 + 0.4 * torch.rand(leading))
    intrinsics[..., 0, 2] = width * (0.4 + 0.2 * torch.rand(leading))
    intrinsics[..., 1, 2] = height * (0.4 + 0.2 * torch.rand(leading))
    return Cameras(camera_to_world, intrinsics)


def known_views(b: int, v: int, *, size: tuple[int, int] = (16, 24), channels: int = 3) -> tuple[Tensor, Tensor]:
    """Images (b v c h w) and their rays (b v 6 h w)."""
    cameras = known_cameras(b, v, size = size)
    return torch.rand(b, v, channels, *size), plucker_rays(*cameras, image_size = size)


def random_rotation(*leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(*leading, 3, 3, dtype = torch.float64))
    return (q * torch.linalg.det(q)[..., None, None]).to(dtype)
