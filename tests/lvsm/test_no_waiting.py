"""The host runs ahead of a GPU: nothing in a training step or in rendering waits for it, by a value that is read or a constant that is copied."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from conftest import known_cameras, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from lvsm_pytorch import MAE, PerceptualLoss, plucker_rays
from lvsm_pytorch.geometry.cameras import Cameras

SIZE = (32, 32)

VARIANTS = {
    'paper': {},
    'cacheable': dict(input_attends_target = False),
    'prope': dict(camera_encoding = 'prope', input_attends_target = False),
    'colors': dict(num_depth_planes = 4, camera_encoding = 'prope'),
    'features': dict(num_depth_planes = 4, plane_sweep = 'features', camera_encoding = 'prope', input_attends_target = False, ssim_loss_weight = 0.1),
    'dropout': dict(dropout_input_ray_prob = 0.5, gradient_checkpointing = True),
}

# tensors of what Python holds, and values that Python reads; on a GPU both wait until all that was started before is done

WAITING = {'aten::lift_fresh', 'aten::_local_scalar_dense', 'aten::nonzero', 'aten::masked_select', 'aten::equal'}
INDEXING = {'aten::index', 'aten::index_put', 'aten::index_put_'}


class Waiting(TorchDispatchMode):
    """As a context: nothing of it may wait."""

    def __torch_dispatch__(self, func, types, args = (), kwargs = None):
        name = func._schema.name
        by_a_mask = name in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1])  # as many values as are True
        assert name not in WAITING, f'waits: {func}'
        assert not by_a_mask, f'waits: {func}'
        return func(*args, **(kwargs or {}))


@contextmanager
def sync_debug_mode():
    torch.cuda.set_sync_debug_mode('error')

    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def views_on(device):
    cameras = known_cameras(2, 5, size = SIZE)
    images, rays = torch.rand(2, 5, 3, *SIZE, device = device), plucker_rays(*cameras, image_size = SIZE).to(device)
    return images, rays, cameras.to(device), torch.tensor([3, 2]).to(device), torch.tensor([[1., 5.]] * 2).to(device)


def step(model, images, rays, cameras, counts, depth_range):
    """Loss and gradients."""
    target_distances = torch.ones(2, 2, *SIZE, device = images.device) if model.plane_sweep.knows_distances else None
    loss = model(images[:, :3], rays[:, :3], rays[:, 3:], images[:, 3:], num_input_images = counts, cameras = cameras, depth_range = depth_range, target_distances = target_distances)
    loss.backward()


@torch.no_grad()
def render(model, images, rays, cameras, counts, depth_range):
    scene = model.encode(images[:, :3], rays[:, :3], counts, cameras[:, :3], depth_range)
    return model.render(scene, rays[:, 3:], cameras = cameras[:, 3:])


# the meta device computes nothing, and checks of values pass over it as over a GPU

PLACES = [
    pytest.param('meta', Waiting, id = 'meta'),
    pytest.param('cuda', sync_debug_mode, id = 'cuda', marks = pytest.mark.skipif(not torch.cuda.is_available(), reason = 'there is no GPU')),
]


@pytest.mark.parametrize('device, nothing_waits', PLACES)
@pytest.mark.parametrize('variant', list(VARIANTS))
def test_nothing_waits(variant, device, nothing_waits):
    model = tiny_model(**VARIANTS[variant]).to(device)
    views = views_on(device)

    if device == 'cuda':
        step(model, *views)  # libraries that are loaded, and memory that is taken, wait once
        render(model, *views)

    for depth_range in (views[-1], None):
        with nothing_waits():
            step(model, *views[:-1], depth_range)
            render(model, *views[:-1], depth_range)


@pytest.mark.parametrize('device, nothing_waits', PLACES)
def test_nothing_waits_in_losses_and_masked_autoencoding(device, nothing_waits):
    perceptual, mae = PerceptualLoss.with_random_weights().to(device), MAE(tiny_model(camera_encoding = 'prope')).to(device)
    images, rays, cameras, counts, _ = views_on(device)

    for _ in range(2 if device == 'cuda' else 1):
        perceptual(images[0], images[1]), mae(images, rays, cameras = cameras)

    with nothing_waits():
        perceptual(images[0].requires_grad_(), images[1]).backward()
        mae(images, rays, counts + 1, cameras = cameras).backward()


def test_a_mask_is_moved_once(monkeypatch):
    """From counts on the CPU, which training has."""
    moved = []
    to = torch.Tensor.to

    def noted(self, *args, **kwargs):
        if self.dtype == torch.bool and self.device.type == 'cpu':
            moved.append(self.shape)
        return to(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, 'to', noted)
    images, rays, cameras, _, _ = views_on('meta')
    model = tiny_model(camera_encoding = 'prope', input_attends_target = False).to('meta')
    model(images[:, :3], rays[:, :3], rays[:, 3:], num_input_images = torch.tensor([3, 2]), cameras = Cameras(*cameras))
    assert moved == [(2, 3)]


def test_what_waits_is_found():
    for waits in (lambda x: x.new_tensor([1., 2.]), lambda x: torch.tensor(1.), lambda x: float(x.sum()), lambda x: x[x > 0]):
        with pytest.raises(AssertionError, match = 'waits'), Waiting():
            waits(torch.ones(3))
