"""Muon, beside torch's own and AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import tiny_model
from torch import nn

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.training.muon import Muon, near_orthogonal, orthogonalized, orthogonalized_in_bfloat16
from lvsm_pytorch.training.optim import learning_rate, optimizer_of, set_learning_rates

SHAPES = [(16, 16), (32, 16), (16, 32), (16, 16)]


def layers(dtype = torch.float32):
    torch.manual_seed(0)
    return nn.ParameterList([nn.Parameter(torch.randn(shape, dtype = dtype)) for shape in (*SHAPES, (8,))])


def with_gradients(parameters, seed, factor = 1.):
    generator = torch.Generator().manual_seed(seed)
    for p in parameters:
        p.grad = factor * torch.randn(p.shape, generator = generator, dtype = p.dtype)


def muon(parameters, **options):
    *matrices, vector = parameters
    return Muon(matrices, [dict(params = [vector])], **options)


@pytest.mark.parametrize('shape', [(12, 12), (24, 12), (12, 24), (3, 12, 24)])
def test_what_is_orthogonalized_keeps_its_singular_vectors(shape):
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices = False)
    values = torch.linspace(0.1, 1., 12)
    x = orthogonalized(u @ torch.diag(values) @ v * 300)
    between = u.mT @ x @ v.mT
    found = between.diagonal(dim1 = -2, dim2 = -1)
    assert (between - torch.diag_embed(found)).abs().max() < 1e-4
    assert found.min() > 0.65
    assert found.max() < 1.25


def test_nothing_stays_nothing():
    for function in (orthogonalized, orthogonalized_in_bfloat16):
        assert not function(torch.zeros(4, 8)).any()


@pytest.mark.parametrize('shape', [(64, 64), (128, 64), (64, 128), (3, 64, 128)])
def test_bfloat16_keeps_singular_vectors_too(shape):
    """As far as it can: small singular values reach less far up in its rounds, and end elsewhere around 1."""
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices = False)
    x = u @ torch.diag(torch.logspace(0, -2, 64)) @ v * 300
    found = orthogonalized_in_bfloat16(x)
    assert found.dtype == torch.bfloat16
    values = (u.mT @ found.float() @ v.mT).diagonal(dim1 = -2, dim2 = -1)
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert torch.cosine_similarity(found.float().flatten(), orthogonalized(x).flatten(), dim = 0) > 0.9


def test_without_a_gpu_steps_are_float32():
    x = torch.randn(8, 16)
    assert torch.equal(near_orthogonal(x), orthogonalized(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason = 'there is no GPU')
def test_on_a_gpu_it_is_bfloat16():
    x = torch.randn(8, 16, device = 'cuda')
    assert near_orthogonal(x).dtype == torch.float32
    assert torch.equal(near_orthogonal(x), orthogonalized_in_bfloat16(x).float())


def test_steps_of_matrices_are_those_of_torchs_own_but_for_its_bfloat16():
    ours, theirs = layers(), layers()
    optimizer = muon(ours, muon_lr = 0.1, weight_decay = 0.3, lr = 1e-3)
    other = torch.optim.Muon(list(theirs)[:-1], lr = 0.1, weight_decay = 0.3)
    begin = [p.detach().clone() for p in ours]

    for step in range(4):
        for each in (ours, theirs):
            with_gradients(each, step, factor = 10. ** step)
        optimizer.step()
        other.step()

    # each brings singular values near to 1, and not to the same

    for before, a, b in list(zip(begin, ours, theirs, strict = True))[:-1]:
        a, b = (a - before).detach(), (b - before).detach()
        assert torch.cosine_similarity(a.flatten(), b.flatten(), dim = 0) > 0.98
        assert a.norm() / b.norm() == pytest.approx(1, abs = 0.15)


def test_a_step_does_not_depend_on_the_scale_of_gradients():
    here, there = layers(), layers()
    for each, factor in ((here, 1.), (there, 1e-6)):
        with_gradients(each, 0, factor)
        muon(each, muon_lr = 0.1).step()
    for a, b in list(zip(here, there, strict = True))[:-1]:
        assert torch.allclose(a, b, atol = 1e-5)


def test_the_rest_is_adamws():
    ours, theirs = layers(), layers()
    optimizer = muon(ours, lr = 1e-2, betas = (0.8, 0.9))
    other = torch.optim.AdamW(list(theirs)[-1:], lr = 1e-2, betas = (0.8, 0.9))

    for step in range(3):
        for each in (ours, theirs):
            with_gradients(each, step)
        optimizer.step()
        other.step()

    torch.testing.assert_close(ours[-1], theirs[-1])


def test_gradients_are_there_after_a_step_and_the_loss_is_given_back():
    parameters = layers()
    optimizer = muon(parameters)
    begin = [p.detach().clone() for p in parameters]

    def closure():
        loss = sum(p.square().sum() for p in parameters)
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    for p, before in zip(parameters, begin, strict = True):
        torch.testing.assert_close(p.grad, 2 * before)
    optimizer.zero_grad()
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict = True))


def test_it_resumes_from_a_state_dict():
    parameters = layers()
    optimizer = muon(parameters)
    with_gradients(parameters, 0)
    optimizer.step()
    others = copy.deepcopy(parameters)
    again = muon(others)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    for each, one in ((parameters, optimizer), (others, again)):
        with_gradients(each, 1)
        one.step()

    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict = True))


@pytest.mark.parametrize('options', [dict(), dict(camera_encoding = 'prope', num_depth_planes = 2)], ids = ['paper', 'modern'])
def test_matrices_of_blocks_are_muons_and_all_else_adamws(options):
    model = tiny_model(**options)
    config = TrainConfig(optimizer = 'muon')
    optimizer = optimizer_of(model, config)
    blocks, matrices, vectors = ({id(p) for p in group['params']} for group in optimizer.param_groups)
    names = {name for name, p in model.named_parameters() if id(p) in blocks}
    assert len(names) == 2 * (4 + 2)
    assert all(name.rsplit('.', 2)[-2] in ('to_q', 'to_k', 'to_v', 'to_out') or '.ff.' in name for name in names)
    assert {id(model.to_input_tokens.weight), id(model.to_target_tokens.weight), id(model.to_pixels.weight)} <= matrices
    assert blocks | matrices | vectors == {id(p) for p in model.parameters()}
    assert [group['weight_decay'] for group in optimizer.param_groups] == [0.05, 0.05, 0]


def test_both_rates_rise_and_fall_together():
    config = TrainConfig(optimizer = 'muon', steps = 100, learning_rate = 2e-3, muon_learning_rate = 0.04)
    optimizer = optimizer_of(tiny_model(), config)
    for step in (0, 4, 5, 50, 99):
        set_learning_rates(optimizer, step, config)
        of_muon, *of_adamw = (group['lr'] for group in optimizer.param_groups)
        assert of_adamw == [learning_rate(step, config)] * 2
        assert of_muon == pytest.approx(20 * learning_rate(step, config))
