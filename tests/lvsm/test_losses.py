from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from lvsm_pytorch.lvsm.losses import TORCHVISION_MEAN, TORCHVISION_STD, VGG_LAYERS, PerceptualLoss, mse, psnr


def images(num = 2, size = (32, 40)):
    return torch.rand(num, 3, *size), torch.rand(num, 3, *size)


def plain_perceptual_loss(weights, pred, target):
    """The paper's, written out: no modules, no loops over blocks."""
    mean = torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)
    a, b = pred * 255 - mean, target * 255 - mean
    total = (a - b).abs().mean()

    def conv(x, name):
        weight, bias = weights[name]
        return F.relu(F.conv2d(x, weight, bias, padding = 1))

    stages = [
        (('conv1_1', 'conv1_2'), 1 / 2.6, ()),
        (('conv2_1', 'conv2_2'), 1 / 4.8, ()),
        (('conv3_1', 'conv3_2'), 1 / 3.7, ('conv3_3', 'conv3_4')),
        (('conv4_1', 'conv4_2'), 1 / 5.6, ('conv4_3', 'conv4_4')),
        (('conv5_1', 'conv5_2'), 10 / 1.5, ()),
    ]
    for number, (before, weight, after) in enumerate(stages):
        if number > 0:
            a, b = (x.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim = (-2, -1)) for x in (a, b))
        for name in before:
            a, b = conv(a, name), conv(b, name)
        total = total + weight * (a - b).abs().mean()
        for name in after:
            a, b = conv(a, name), conv(b, name)

    return total / 255


@pytest.fixture(scope = 'module')
def weights():
    generator = torch.Generator().manual_seed(1)
    return {name: (torch.randn(o, i, 3, 3, generator = generator) * (2 / (9 * i)) ** 0.5, torch.randn(o, generator = generator)) for name, i, o in VGG_LAYERS}


def write_matconvnet(path, weights, layout):
    import numpy as np
    from scipy.io import savemat

    layers = np.empty(len(weights) + 1, dtype = object)
    layers[0] = dict(name = 'pool1', type = 'pool')
    for index, (name, (weight, bias)) in enumerate(weights.items()):
        filters, biases = weight.permute(2, 3, 1, 0).numpy(), bias.unsqueeze(0).numpy()
        pair = np.empty((1, 2), dtype = object)
        pair[0, 0], pair[0, 1] = filters, biases
        layers[index + 1] = dict(name = name, type = 'conv', **(dict(weights = pair) if layout == 'new' else dict(filters = filters, biases = biases)))
    savemat(path, dict(layers = layers))


def test_mse_and_psnr():
    a, b = images()
    assert torch.allclose(mse(a, b), ((a - b) ** 2).mean())
    assert torch.allclose(psnr(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.1)), torch.full((2,), 20.))
    assert psnr(a.unsqueeze(0), b.unsqueeze(0)).shape == (1, 2)
    assert psnr(a, a).isinf().all()
    assert mse(a.bfloat16(), b.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize('layout', ['new', 'old'])
def test_the_papers_loss_from_a_matconvnet_file(tmp_path, weights, layout):
    pytest.importorskip('scipy')
    write_matconvnet(tmp_path / 'vgg.mat', weights, layout)
    loss = PerceptualLoss.from_matconvnet(tmp_path / 'vgg.mat')
    pred, target = images()
    assert torch.allclose(loss(pred, target), plain_perceptual_loss(weights, pred, target), rtol = 1e-4)


def test_torchvision_weights_need_no_torchvision(tmp_path, weights, monkeypatch):
    """The paper's network without biases, rescaled to another unit of its input, gives the paper's loss."""
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    mean, std = torch.tensor(TORCHVISION_MEAN), torch.tensor(TORCHVISION_STD)
    biasless = {name: (weight, torch.zeros_like(bias)) for name, (weight, bias) in weights.items()}
    unit = 255 * std.mean()

    indices = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30)
    state = {f'features.{index}.{part}': tensor.clone() for index, pair in zip(indices, biasless.values(), strict = True) for part, tensor in zip(('weight', 'bias'), pair, strict = True)}
    state['classifier.0.weight'] = torch.zeros(1)
    torch.save(state, tmp_path / 'vgg19.pth')
    loss = PerceptualLoss.from_torchvision(tmp_path / 'vgg19.pth')

    # what this network sees as x is, for the paper's, the image that gives x times the unit

    pred, target = images()
    as_the_paper_sees_it = [((x - mean.view(3, 1, 1)) / std.view(3, 1, 1) * unit + torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)) / 255 for x in (pred, target)]
    expected = plain_perceptual_loss(biasless, *as_the_paper_sees_it) - (as_the_paper_sees_it[0] - as_the_paper_sees_it[1]).abs().mean() + (pred - target).abs().mean()
    assert torch.allclose(loss(pred, target), expected, rtol = 1e-4)
    torch.testing.assert_close(PerceptualLoss.from_torchvision(state)(pred, target), loss(pred, target))


def test_it_is_zero_for_equal_images_alone():
    loss = PerceptualLoss.with_random_weights()
    pred, target = images()
    assert loss(pred, pred) == 0
    assert loss(pred, target) > 0


def test_it_is_frozen_and_reaches_the_prediction_alone():
    loss = PerceptualLoss.with_random_weights().train()
    assert not loss.training
    assert not any(p.requires_grad for p in loss.parameters())
    pred, target = (x.requires_grad_() for x in images())
    loss(pred, target).backward()
    assert pred.grad.abs().max() > 0
    assert target.grad is None


def test_autocast_changes_nothing():
    loss = PerceptualLoss.with_random_weights()
    pred, target = images()
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(loss(pred, target), loss(pred, target))
        under_autocast = loss(pred, target)
    assert torch.equal(under_autocast, loss(pred, target))
    assert loss(pred.bfloat16(), target.bfloat16()).dtype == torch.float32


def test_random_weights_repeat_by_their_generator():
    a, b = (PerceptualLoss.with_random_weights(torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict = True))


@pytest.mark.parametrize('pred, target, message', [
    (torch.rand(1, 4, 32, 32), torch.rand(1, 4, 32, 32), 'pred: .*three channels'),
    (torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 16), 'target: .*width'),
    (torch.rand(3, 32, 32), torch.rand(3, 32, 32), 'pred: .*axes'),
    (torch.rand(1, 3, 8, 32), torch.rand(1, 3, 8, 32), 'pred: must be at least 16'),
    (torch.zeros(1, 3, 32, 32, dtype = torch.uint8), torch.rand(1, 3, 32, 32), 'pred: .*255'),
])
def test_wrong_images_are_named(pred, target, message):
    with pytest.raises(ValueError, match = message):
        PerceptualLoss.with_random_weights()(pred, target)


def test_wrong_weights_are_named(tmp_path, weights):
    with pytest.raises(ValueError, match = 'weights: must be a file that exists'):
        PerceptualLoss.from_torchvision(tmp_path / 'missing.pth')
    with pytest.raises(ValueError, match = 'weights: must be those of VGG-19, but got conv1_1: .*got nothing'):
        PerceptualLoss.from_torchvision({'features.0.weight': torch.zeros(64, 3, 3, 3)})
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match = 'weights: must be the state dict'):
        PerceptualLoss.from_torchvision(tmp_path / 'list.pth')

    with pytest.raises(ValueError, match = 'path: must be a file of VGG-19'):
        PerceptualLoss.from_matconvnet(tmp_path / 'missing.mat')
    savemat = pytest.importorskip('scipy.io').savemat
    savemat(tmp_path / 'other.mat', dict(something = 1))
    with pytest.raises(ValueError, match = r"path: .*\['something'\]"):
        PerceptualLoss.from_matconvnet(tmp_path / 'other.mat')


@pytest.mark.parametrize('module, make', [('scipy.io', PerceptualLoss.from_matconvnet), ('torchvision.models', PerceptualLoss.from_torchvision)])
def test_missing_packages_name_their_extra(monkeypatch, module, make):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match = r'lvsm-pytorch\[perceptual\]'):
        make('file') if module == 'scipy.io' else make()
