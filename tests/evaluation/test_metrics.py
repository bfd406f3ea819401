from __future__ import annotations

import pytest
import torch
from conftest import known_cameras, tiny_model

from lvsm_pytorch.data import Batch
from lvsm_pytorch.evaluation.metrics import baselines, blurred_mean, copied_input, figures, gaussian_blur, render_batch, score
from lvsm_pytorch.evaluation.pictures import save_comparison
from lvsm_pytorch.lvsm.losses import psnr


def batch(b = 3, v = 2, t = 1, size = 32):
    return Batch(torch.rand(b, v + t, 3, size, size), known_cameras(b, v + t), [f'view {i}' for i in range(b)], v)


def test_scores_of_every_view():
    images = torch.rand(3, 2, 3, 16, 16)
    perfect = score(images, images)
    assert perfect.psnr.shape == perfect.ssim.shape == (6,)
    assert torch.allclose(perfect.ssim, torch.ones(6), atol = 1e-5)
    noisy = score((images + 0.1 * torch.randn_like(images)).clamp(0, 1), images)
    assert (noisy.ssim < 0.99).all()
    assert (noisy.psnr > 15).all()


def test_the_better_input_is_copied():
    views = batch(t = 2)
    views.input_images[:, 1] = (views.target_images[:, 0] + 0.05).clamp(0, 1)
    views.target_images[:, 1] = views.input_images[:, 0]
    copied = copied_input(views)
    assert copied.psnr.shape == (6,)
    assert torch.allclose(copied.psnr.view(3, 2)[:, 0], psnr(views.input_images[:, 1], views.target_images[:, 0]))
    assert copied.psnr.view(3, 2)[:, 1].isinf().all()


def test_the_blurred_mean_is_the_best_of_its_blurs():
    views = batch()
    mean = views.input_images.mean(dim = 1)
    views = views._replace(images = torch.cat((views.input_images, gaussian_blur(mean, 2.).unsqueeze(1)), dim = 1))
    assert blurred_mean(views).psnr.min() > 60
    noise = batch(size = 64)  # of noise, the most blurred is the best guess
    assert blurred_mean(noise).psnr.mean() == pytest.approx(psnr(torch.full_like(noise.target_images, 0.5), noise.target_images).mean().item(), abs = 0.1)


def test_the_copy_is_chosen_for_each_target_and_scored_once():
    views = batch(v = 3, t = 2)
    copied = copied_input(views)
    all_pairs = score(views.input_images.unsqueeze(2).expand(-1, -1, 2, -1, -1, -1), views.target_images.unsqueeze(1).expand(-1, 3, -1, -1, -1, -1))
    psnrs, ssims = (values.view(3, 3, 2) for values in all_pairs)
    best = psnrs.argmax(dim = 1, keepdim = True)
    assert torch.allclose(copied.psnr, psnrs.gather(1, best).flatten())
    assert torch.allclose(copied.ssim, ssims.gather(1, best).flatten(), atol = 1e-5)


def test_a_blur_is_a_convolution_of_which_edges_are_repeated():
    images, sigma = torch.rand(2, 3, 12, 20), 3.
    x = torch.arange(-9, 10)
    kernel = torch.exp(-(x / sigma) ** 2 / 2)
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(images, (9, 9, 9, 9), mode = 'replicate')
    expected = torch.nn.functional.conv2d(padded.view(6, 1, 30, 38), (kernel[:, None] * kernel)[None, None]).view(2, 3, 12, 20)
    assert torch.allclose(gaussian_blur(images, sigma), expected, atol = 1e-6)


def test_a_blur_keeps_the_mean_and_spreads_a_point():
    flat = torch.full((1, 3, 20, 20), 0.3)
    assert torch.allclose(gaussian_blur(flat, 4.), flat)
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = gaussian_blur(point, 2.)[0, 0]
    assert spread.sum() == pytest.approx(1, abs = 1e-5)
    x = torch.arange(41) - 20.
    assert (spread.sum(dim = 0) * x ** 2).sum() == pytest.approx(4, rel = 0.05)
    assert torch.allclose(spread, spread.T, atol = 1e-7)


def test_rendering_does_not_depend_on_the_batch_size_and_restores_the_mode():
    model = tiny_model(dropout_input_ray_prob = 0.5).train()
    views = batch(b = 5)
    pred = render_batch(model, views, batch_size = 2)
    assert pred.shape == views.target_images.shape
    assert torch.allclose(pred, render_batch(model, views, batch_size = 5), atol = 1e-5)
    assert model.training
    assert not pred.requires_grad


def test_figures_have_names():
    views = batch()
    named = figures(model = score(views.target_images * 0.9, views.target_images), **baselines(views)._asdict())
    assert sorted(named) == ['blur_psnr', 'blur_ssim', 'copy_psnr', 'copy_ssim', 'model_psnr', 'model_ssim']
    assert named['copy_psnr'] == pytest.approx(copied_input(views).psnr.mean().item())


def test_a_comparison_shows_inputs_prediction_and_truth(tmp_path):
    from PIL import Image

    views = batch(b = 2)
    colors = torch.tensor([[1., 0., 0.], [0., 1., 0.]]).view(1, 2, 3, 1, 1).expand_as(views.input_images)
    views = views._replace(images = torch.cat((colors, torch.zeros_like(views.target_images)), dim = 1))
    blue = torch.tensor([0., 0., 1.]).view(1, 1, 3, 1, 1).expand_as(views.target_images)
    save_comparison(tmp_path / 'new' / 'comparison.png', views, blue)
    picture = Image.open(tmp_path / 'new' / 'comparison.png').convert('RGB')
    row = [picture.getpixel((4 + column * 132 + 64, 18 + 64)) for column in range(4)]
    assert row == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]
