from __future__ import annotations

import pytest
import torch
from conftest import known_cameras, tiny_model
from torch import nn

from lvsm_pytorch import MAE, CameraWrapper, MAECameraWrapper, plucker_rays
from lvsm_pytorch.geometry.rays import pixel_grid

B, V, T, SIZE = 2, 3, 4, (16, 24)


def arguments(prefix, cameras):
    world_to_camera = torch.linalg.inv(cameras.camera_to_world)
    return {
        f'{prefix}intrinsic_rotation': cameras.intrinsics,
        f'{prefix}extrinsic_rotation': world_to_camera[..., :3, :3],
        f'{prefix}translation': world_to_camera[..., :3, 3],
    }


def scene(num_targets = None):
    inputs = known_cameras(B, V, size = SIZE)
    targets = known_cameras(B, *(() if num_targets is None else (num_targets,)), size = SIZE)
    images = torch.rand(B, V, 3, *SIZE)
    return inputs, targets, images, dict(**arguments('input_', inputs), **arguments('target_', targets), input_images = images)


@pytest.mark.parametrize('num_targets', [None, 1, T])
def test_cameras_make_the_rays_of_the_cameras_module(num_targets):
    lvsm = tiny_model()
    inputs, targets, images, given = scene(num_targets)
    expected = lvsm(images, plucker_rays(*inputs, image_size = SIZE), plucker_rays(*targets, image_size = SIZE))
    assert torch.allclose(CameraWrapper(lvsm)(**given), expected, atol = 1e-5)


def test_all_results_of_the_model_are_had():
    lvsm = tiny_model()
    model = CameraWrapper(lvsm)
    _, _, _, given = scene(T)
    target_images = torch.rand(B, T, 3, *SIZE)
    loss, breakdown = model(**given, target_images = target_images, return_loss_breakdown = True)
    assert torch.allclose(loss, (model(**given) - target_images).square().mean())
    assert torch.equal(loss, breakdown.mse)
    assert model(**given, return_embed = True).targets.shape[:2] == (B, T)


def test_uniform_points_are_pixel_coordinates():
    model = CameraWrapper(tiny_model())
    _, _, _, given = scene()
    grid = pixel_grid(SIZE)
    points = dict(input_uniform_points = grid.expand(B, V, -1, -1, -1), target_uniform_points = grid.expand(B, -1, -1, -1))
    assert torch.allclose(model(**given, **points), model(**given), atol = 1e-6)
    shifted = dict(points, target_uniform_points = points['target_uniform_points'] + torch.tensor([5., 0., 0.]).view(3, 1, 1))
    assert not torch.allclose(model(**given, **shifted), model(**given), atol = 1e-3)


def test_the_world_to_camera_translation_matters():
    model = CameraWrapper(tiny_model())
    _, _, _, given = scene()
    moved = dict(given, target_translation = given['target_translation'] + 1)
    assert not torch.allclose(model(**moved), model(**given), atol = 1e-3)


@pytest.mark.parametrize('filler', [0., torch.nan])
def test_cameras_of_padded_views_may_hold_anything(filler):
    model = CameraWrapper(tiny_model())
    _, _, _, given = scene()
    counts = torch.tensor([1, 2])

    def run(given):
        model.zero_grad()
        model(**given, num_input_images = counts, target_images = torch.zeros(B, 3, *SIZE)).backward()
        return model(**given, num_input_images = counts), [p.grad.clone() for p in model.parameters()]

    views, grads = run(given)
    padded = {name: tensor.clone() for name, tensor in given.items()}
    for name, tensor in padded.items():
        if name.startswith('input_'):
            tensor[0, 1:], tensor[1, 2:] = filler, filler
    padded['input_translation'].requires_grad_()
    other_views, other_grads = run(padded)
    assert torch.allclose(other_views, views, atol = 1e-6)
    assert all(torch.allclose(a, b, atol = 1e-6) for a, b in zip(other_grads, grads, strict = True))
    assert padded['input_translation'].grad.isfinite().all()
    assert padded['input_translation'].grad[0, 0].abs().max() > 0


def test_rays_are_made_in_float32_under_autocast():
    _, _, _, given = scene()
    seen = {}

    class Spy(nn.Module):
        channels = 3
        tokens = None

        def forward(self, **kwargs):
            seen.update(kwargs)

    with torch.autocast('cpu', torch.bfloat16):
        CameraWrapper(Spy())(**given)
    under_autocast = dict(seen)
    CameraWrapper(Spy())(**given)
    for name in ('input_rays', 'target_rays'):
        assert torch.equal(under_autocast[name], seen[name])
    assert seen['cameras'].camera_to_world.shape == (B, V + 1, 4, 4)


def test_cameras_travel_along():
    inputs, targets, _, given = scene(T)
    seen = {}

    class Spy(nn.Module):
        channels = 3
        tokens = None

        def forward(self, **kwargs):
            seen.update(kwargs)

    CameraWrapper(Spy())(**given)
    assert torch.allclose(seen['cameras'].camera_to_world, torch.cat((inputs.camera_to_world, targets.camera_to_world), dim = 1), atol = 1e-5)
    assert torch.equal(seen['cameras'].intrinsics, torch.cat((inputs.intrinsics, targets.intrinsics), dim = 1))


def test_poses_can_be_learnt():
    model = CameraWrapper(tiny_model())
    _, _, _, given = scene()
    given = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    model(**given).sum().backward()
    assert all(tensor.grad.abs().max() > 0 for tensor in given.values())


def test_mae_of_cameras_is_mae_of_rays():
    mae = MAE(tiny_model())
    cameras = known_cameras(B, V, size = SIZE)
    images = torch.rand(B, V, 3, *SIZE)
    options = dict(return_loss_breakdown = True)
    expected = mae(images, plucker_rays(*cameras, image_size = SIZE), generator = torch.Generator().manual_seed(1), **options)
    result = MAECameraWrapper(mae)(**arguments('', cameras), images = images, generator = torch.Generator().manual_seed(1), **options)
    assert torch.allclose(result[0], expected[0], atol = 1e-6)

    counts, broken = torch.tensor([2, 3]), arguments('', cameras)
    broken['intrinsic_rotation'] = broken['intrinsic_rotation'].clone()
    broken['intrinsic_rotation'][0, 2] = torch.nan
    assert MAECameraWrapper(mae)(**broken, images = images, num_images = counts).isfinite()


@pytest.mark.parametrize('change, message', [
    (dict(input_images = torch.rand(B, V, *SIZE, 3)), 'input_images: .*channels'),
    (dict(input_images = torch.zeros(B, V, 3, *SIZE, dtype = torch.uint8)), 'input_images: .*255'),
    (dict(input_intrinsic_rotation = torch.rand(B, V, 4, 4)), r'input_intrinsic_rotation: .*\(b v 3 3\)'),
    (dict(input_extrinsic_rotation = torch.rand(B, V + 1, 3, 3)), 'input_extrinsic_rotation: .*input views'),
    (dict(input_translation = torch.rand(B, V, 4)), 'input_translation: '),
    (dict(input_uniform_points = torch.rand(B, V, 3, 8, 24)), 'input_uniform_points: .*height'),
    (dict(input_uniform_points = torch.ones(B, V, 3, *SIZE, dtype = torch.long)), 'input_uniform_points: must be floating point'),
    (dict(target_translation = torch.rand(B, 1, 3)), r'target_translation: must have shape \(b 3\)'),
    (dict(target_extrinsic_rotation = torch.rand(B, T, 3, 3)), 'target_extrinsic_rotation: '),
    (dict(target_intrinsic_rotation = None), 'target_intrinsic_rotation: must be a torch.Tensor'),
    (dict(target_intrinsic_rotation = torch.zeros(B, 3, 3)), 'target_intrinsic_rotation: must be invertible'),
    (dict(input_intrinsic_rotation = torch.zeros(B, V, 3, 3)), 'input_intrinsic_rotation: must be invertible'),
    (dict(num_input_images = torch.tensor([1, 9])), 'num_input_images: must be from 1'),
    (dict(num_input_images = torch.tensor([1])), 'num_input_images: .*batch'),
])
def test_wrong_inputs_are_named(change, message):
    _, _, _, given = scene()
    with pytest.raises(ValueError, match = message):
        CameraWrapper(tiny_model())(**{**given, **change})


@pytest.mark.parametrize('wrapper, wrong, message', [
    (CameraWrapper, 'mae', 'lvsm: must be an LVSM, but got MAE'),
    (CameraWrapper, 'linear', 'lvsm: must be an LVSM, but got Linear'),
    (MAECameraWrapper, 'lvsm', 'mae: must be an MAE, but got LVSM'),
    (MAECameraWrapper, 'none', 'mae: must be an MAE, but got NoneType'),
])
def test_wrappers_around_the_wrong_thing(wrapper, wrong, message):
    things = dict(lvsm = tiny_model(), mae = MAE(tiny_model()), linear = nn.Linear(1, 1), none = None)
    with pytest.raises(ValueError, match = message):
        wrapper(things[wrong])
