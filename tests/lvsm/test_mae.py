from __future__ import annotations

import pytest
import torch
from conftest import known_views, tiny_model

from lvsm_pytorch import MAE
from lvsm_pytorch.lvsm.mae import ImageAndRayRecon, MAELossBreakdown

B, V, SIZE = 4, 6, (16, 24)


def generator(seed = 0):
    return torch.Generator().manual_seed(seed)


def masks(mae, num_views = V, counts = None, draws = 50):
    valid_mask = torch.ones(B, num_views, dtype = torch.bool) if counts is None else torch.arange(num_views) < counts.unsqueeze(1)
    return [mae.draw_masks(valid_mask, generator(seed)) for seed in range(draws)]


@pytest.mark.parametrize('frac_masked, frac_images', [(0.5, 0.5), (0.01, 0.5), (0.99, 0.5), (0.5, 0.), (0.5, 1.)])
@pytest.mark.parametrize('num_views', [2, 3, V])
def test_a_pair_never_loses_both_and_at_least_one_is_masked(frac_masked, frac_images, num_views):
    mae = MAE(tiny_model(), frac_masked = frac_masked, frac_images_to_ray_masked = frac_images)
    num_masked = max(int(num_views * frac_masked), 1)

    for image_mask, ray_mask in masks(mae, num_views):
        assert not (image_mask & ray_mask).any()
        assert ((image_mask | ray_mask).sum(dim = 1) == num_masked).all()
        assert frac_images > 0 or not image_mask.any()
        assert frac_images < 1 or not ray_mask.any()


def test_the_fractions_hold_on_average():
    mae = MAE(tiny_model(), frac_masked = 0.5, frac_images_to_ray_masked = 0.3)
    drawn = masks(mae, draws = 500)
    num_images, num_rays = (torch.stack(kind).sum() for kind in zip(*drawn, strict = True))
    assert num_images / (num_images + num_rays) == pytest.approx(0.3, abs = 0.02)
    often = torch.stack([i | r for i, r in drawn]).float().mean(dim = (0, 1))
    assert torch.allclose(often, torch.full((V,), 0.5), atol = 0.06)  # every view alike


def test_padded_views_are_never_masked():
    counts = torch.tensor([2, 3, 5, 6])
    mae = MAE(tiny_model())
    for image_mask, ray_mask in masks(mae, counts = counts):
        masked = image_mask | ray_mask
        assert not masked[torch.arange(V) >= counts.unsqueeze(1)].any()
        assert (masked.sum(dim = 1) == counts // 2).all()


def test_the_loss_is_that_of_what_was_masked():
    mae = MAE(tiny_model(), image_to_ray_loss_weight = 3.)
    images, rays = known_views(B, V, size = SIZE)
    loss, (breakdown, recon) = mae(images, rays, return_image_and_ray_recon = True, return_loss_breakdown = True, generator = generator())

    (image_mask, pred_images), (ray_mask, pred_rays) = recon
    image_errors = (pred_images - images[image_mask]).square()
    ray_errors = (pred_rays - rays[ray_mask]).square()
    assert len(pred_images) > 0
    assert len(pred_rays) > 0
    assert torch.allclose(breakdown.image, image_errors.mean())
    assert torch.allclose(breakdown.ray, ray_errors.mean())
    assert torch.allclose(loss, torch.cat((3 * image_errors.flatten(), ray_errors.flatten())).mean())


def test_what_is_returned():
    mae = MAE(tiny_model())
    views = known_views(B, V, size = SIZE)
    assert mae(*views).ndim == 0
    assert isinstance(mae(*views, return_loss_breakdown = True)[1], MAELossBreakdown)
    assert isinstance(mae(*views, return_image_and_ray_recon = True)[1], ImageAndRayRecon)


@pytest.mark.parametrize('frac_images', [0., 1.])
def test_one_kind_alone_gives_no_nan(frac_images):
    mae = MAE(tiny_model(), frac_images_to_ray_masked = frac_images)
    loss, breakdown = mae(*known_views(B, V, size = SIZE), return_loss_breakdown = True)
    loss.backward()
    assert loss > 0
    assert torch.stack(breakdown).isfinite().all()
    assert breakdown[int(frac_images)] == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in mae.parameters())


def test_masked_views_have_no_influence():
    mae = MAE(tiny_model())
    images, rays = known_views(B, V, size = SIZE)
    _, recon = mae(images, rays, return_image_and_ray_recon = True, generator = generator())
    hidden_images, hidden_rays = images.clone(), rays.clone()
    hidden_images[recon.images.mask], hidden_rays[recon.rays.mask] = 0.5, 7.
    _, other = mae(hidden_images, hidden_rays, return_image_and_ray_recon = True, generator = generator())
    assert torch.equal(other.images.pred, recon.images.pred)
    assert torch.equal(other.rays.pred, recon.rays.pred)


def test_padded_views_change_nothing():
    mae = MAE(tiny_model())
    images, rays = known_views(B, V, size = SIZE)
    counts = torch.tensor([2, 3, 5, 6])

    def run(images, rays):
        mae.zero_grad()
        loss = mae(images, rays, num_images = counts, generator = generator())
        loss.backward()
        return loss, [p.grad.clone() for p in mae.parameters()]

    loss, grads = run(images, rays)
    padded = torch.arange(V) >= counts.unsqueeze(1)
    images, rays = images.clone(), rays.clone()
    images[padded], rays[padded] = torch.nan, torch.nan
    other_loss, other_grads = run(images, rays)
    assert torch.allclose(other_loss, loss, atol = 1e-6)
    assert all(torch.allclose(a, b, atol = 1e-6) for a, b in zip(other_grads, grads, strict = True))


def test_randomness():
    mae = MAE(tiny_model(dropout_input_ray_prob = 0.9))
    views = known_views(B, V, size = SIZE)
    assert mae(*views, generator = generator(3)) == mae(*views, generator = generator(3))
    assert len({mae(*views).item() for _ in range(5)}) > 1
    mae.eval()
    assert mae(*views) == mae(*views)


def test_every_weight_learns():
    mae = MAE(tiny_model())
    mae(*known_views(B, V, size = SIZE)).backward()
    assert all(p.grad.abs().max() > 0 for p in mae.parameters())


def test_other_channels():
    mae = MAE(tiny_model(channels = 4))
    assert mae(*known_views(B, 2, size = SIZE, channels = 4)).isfinite()


@pytest.mark.parametrize('change, message', [
    (dict(frac_masked = 0.), 'frac_masked: '),
    (dict(frac_masked = 1.), 'frac_masked: '),
    (dict(frac_images_to_ray_masked = 1.1), 'frac_images_to_ray_masked: '),
    (dict(frac_images_to_ray_masked = -0.1), 'frac_images_to_ray_masked: '),
    (dict(image_to_ray_loss_weight = -1.), 'image_to_ray_loss_weight: '),
    (dict(lvsm = torch.nn.Linear(1, 1)), 'lvsm: must be an LVSM, but got Linear'),
    (dict(lvsm = None), 'lvsm: must be an LVSM, but got NoneType'),
])
def test_wrong_constructor_arguments_are_named(change, message):
    with pytest.raises(ValueError, match = message):
        MAE(**{**dict(lvsm = tiny_model()), **change})


@pytest.mark.parametrize('change, message', [
    (dict(images = torch.rand(B, 1, 3, *SIZE), rays = torch.rand(B, 1, 6, *SIZE)), 'images: must have at least two views'),
    (dict(rays = torch.rand(B, V - 1, 6, *SIZE)), 'rays: .*input views'),
    (dict(images = torch.rand(B, V, 4, *SIZE)), 'images: .*channels 3'),
    (dict(images = torch.zeros(B, V, 3, *SIZE, dtype = torch.uint8)), 'images: .*255'),
    (dict(num_images = torch.tensor([1, 2, 2, 2])), 'num_images: must be from 2'),
    (dict(num_images = torch.tensor([7, 2, 2, 2])), 'num_images: must be from 2 to the number of views 6'),
    (dict(num_images = torch.tensor([2., 2, 2, 2])), 'num_images: must be integers'),
    (dict(num_images = torch.tensor([2, 2])), 'num_images: .*batch'),
    (dict(num_images = 2), 'num_images: must be a torch.Tensor'),
])
def test_wrong_inputs_are_named(change, message):
    images, rays = known_views(B, V, size = SIZE)
    with pytest.raises(ValueError, match = message):
        MAE(tiny_model())(**{**dict(images = images, rays = rays), **change})
