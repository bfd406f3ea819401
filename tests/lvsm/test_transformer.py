"""The blocks between tokens and tokens: equal to x-transformers' own loop (test_encode.py), and what they keep and compute."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from conftest import known_views, tiny_model
from torch.utils.flop_counter import FlopCounterMode

B, V, T, SIZE = 2, 3, 2, (16, 24)
MODES = [True, False]
FLAGS = [{}, dict(ff_glu = True), dict(add_value_residual = True, use_rmsnorm = True)]


def batch():
    images, rays = known_views(B, V, size = SIZE)
    target_images, target_rays = known_views(B, T, size = SIZE)
    return images, rays, target_rays, target_images


def gradients(model, arguments, **options):
    model.zero_grad()
    model(*arguments, **options).backward()
    return [p.grad.clone() for p in model.parameters()]


def with_checkpointing(model):
    other = type(model)(**{**model.config, 'gradient_checkpointing': True})
    other.load_state_dict(model.state_dict(), strict = True)
    return other


@pytest.mark.parametrize('counts', [None, torch.tensor([1, 3])], ids = ['all', 'ragged'])
@pytest.mark.parametrize('flags', FLAGS, ids = str)
@pytest.mark.parametrize('mode', MODES)
def test_checkpointing_changes_no_gradient(mode, flags, counts):
    model = tiny_model(input_attends_target = mode, decoder_kwargs = flags)
    views = batch()
    expected = gradients(model, views, num_input_images = counts)
    for a, b in zip(expected, gradients(with_checkpointing(model), views, num_input_images = counts), strict = True):
        assert torch.allclose(a, b, atol = 1e-6)


def test_checkpointing_is_no_part_of_the_network(tmp_path):
    model = tiny_model(gradient_checkpointing = True)
    model.save_pretrained(tmp_path)
    assert 'gradient_checkpointing' not in model.config
    assert type(model).from_pretrained(tmp_path).transformer.gradient_checkpointing is False
    assert type(model).from_pretrained(tmp_path, gradient_checkpointing = True).transformer.gradient_checkpointing is True


def test_a_copy_of_a_checkpointed_model_computes_with_its_own_weights():
    for flags in FLAGS:
        model = tiny_model(gradient_checkpointing = True, decoder_kwargs = flags)
        other = copy.deepcopy(model)
        with torch.no_grad():
            for p in other.parameters():
                p.mul_(1.5)
        views = batch()
        assert not torch.allclose(model(*views), other(*views), atol = 1e-3)


def kept(model):
    """Numbers of values that a training step keeps between its forward and its backward pass, weights left out."""
    weights = {p.data_ptr() for p in model.parameters()}
    storages = {}

    def pack(t):
        if t.data_ptr() not in weights:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // t.element_size()
        return t  # kept alive, so that no address comes twice

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = model(*batch())
    assert loss.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize('mode', MODES)
def test_with_checkpointing_memory_grows_with_depth_by_one_activation_a_block(mode):
    grown = kept(tiny_model(depth = 5, input_attends_target = mode, gradient_checkpointing = True)) - kept(tiny_model(depth = 3, input_attends_target = mode, gradient_checkpointing = True))
    tokens = SIZE[0] * SIZE[1] // 64
    sequence = T * (V + 1) * tokens if mode else (V + T) * tokens
    assert 0 < grown <= 2 * B * sequence * 32

    without = kept(tiny_model(depth = 5, input_attends_target = mode)) - kept(tiny_model(depth = 3, input_attends_target = mode))
    assert without > 10 * grown


def test_an_encoder_that_runs_itself_keeps_less_too():
    flags = dict(depth = 4, decoder_kwargs = dict(add_value_residual = True))
    assert kept(tiny_model(gradient_checkpointing = True, **flags)) < 0.5 * kept(tiny_model(**flags))


def flops(function):
    with FlopCounterMode(display = False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize('mode', MODES)
def test_nothing_is_computed_that_nobody_reads(mode):
    """The last block's queries, output projection and feed-forward of input tokens feed nothing but `return_embed`."""
    model = tiny_model(depth = 2, input_attends_target = mode)
    images, rays, target_rays, _ = batch()
    dim, inner = 32, model.config['heads'] * model.config['dim_head']
    num_inputs = B * V * (SIZE[0] * SIZE[1] // 64) * (T if mode else 1)
    unread = 2 * num_inputs * (2 * dim * inner + 8 * dim * dim)

    with torch.no_grad():
        less = flops(lambda: model(images, rays, target_rays, return_embed = True)) - flops(lambda: model(images, rays, target_rays))
        rendering = 2 * B * T * (SIZE[0] * SIZE[1] // 64) * dim * 3 * 64
        assert less + rendering >= unread

        if not mode:
            whole, read = flops(lambda: model.tokens(images, rays)), flops(lambda: model.encode(images, rays))
            assert whole - read >= unread


def test_unread_tokens_do_not_change_those_that_are_read():
    for mode in MODES:
        model = tiny_model(input_attends_target = mode)
        images, rays, target_rays, _ = batch()
        expected = model.decode(model(images, rays, target_rays, return_embed = True).targets)
        assert torch.allclose(model(images, rays, target_rays), expected, atol = 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('mode', MODES)
def test_checkpointing_compile_and_bfloat16_together(mode):
    plain = tiny_model(depth = 2, input_attends_target = mode)
    model = with_checkpointing(plain)
    views = batch()
    exact = gradients(plain, views)
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # those of the compiler itself
        compiled = torch.compile(model, fullgraph = True, backend = 'aot_eager')
        model.zero_grad()
        compiled(*views).backward()
        for a, p in zip(exact, model.parameters(), strict = True):
            assert torch.allclose(a, p.grad, atol = 1e-5)

        model.zero_grad()
        with torch.autocast('cpu', torch.bfloat16):
            compiled(*views).backward()
    for a, p in zip(exact, model.parameters(), strict = True):
        assert (a - p.grad).norm() < 0.1 * a.norm() + 1e-4
