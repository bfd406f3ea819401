"""Attention to a shared context is that to a copy of it for each target, and keeps no copy."""

from __future__ import annotations

import pytest
import torch
from conftest import known_views, tiny_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from lvsm_pytorch.lvsm import attention
from lvsm_pytorch.lvsm.attention import context_attention
from lvsm_pytorch.lvsm.shared_context import WithContext, attend_with_context, can_share_context

SCENES, TARGETS, HEADS, N, M, DIM_HEAD = 2, 3, 2, 6, 10, 8


def queries_and_keys(dtype = torch.float32, scale = 1., **options):
    """q, k, v, and keys and values of the context, as heads come out of a linear map."""
    sizes = [SCENES * TARGETS] * 3 + [SCENES] * 2
    lengths = [N] * 3 + [M] * 2
    return [(scale * torch.randn(b, n, HEADS, DIM_HEAD, dtype = dtype, **options)).transpose(1, 2).requires_grad_() for b, n in zip(sizes, lengths, strict = True)]


def by_a_copy(q, k, v, context_k, context_v):
    k, v = (torch.cat((context.repeat_interleave(TARGETS, dim = 0), own), dim = 2) for context, own in ((context_k, k), (context_v, v)))
    return (q @ k.mT / DIM_HEAD ** 0.5).softmax(dim = -1) @ v


# with the larger scale, which scores have twice, some softmax is all but one key

@pytest.mark.parametrize('dtype, scale, most', [(torch.float64, 1., 1e-12), (torch.float64, 4., 1e-10), (torch.float32, 1., 1e-5), (torch.float32, 4., 1e-3), (torch.bfloat16, 1., 0.05)])
def test_it_is_attention_to_a_copy_for_each_target(dtype, scale, most):
    tensors = queries_and_keys(dtype, scale)
    gradient = torch.randn(SCENES * TARGETS, HEADS, N, DIM_HEAD, dtype = dtype)
    assert can_share_context(tensors[0], tensors[3])
    found, wanted = attend_with_context(*tensors), by_a_copy(*(each.double() for each in tensors))
    assert (found - wanted).abs().max() < most
    gradients = (torch.autograd.grad(out, tensors, gradient.to(out.dtype)) for out in (found, wanted))
    for each, other in zip(*gradients, strict = True):
        assert (each - other).abs().max() < most


def test_what_is_kept_for_gradients_does_not_grow_by_the_context():
    """Of each further target, what it is itself: a copy would keep the keys and values of the context, which are longer here."""
    def kept(t):
        model = tiny_model(input_attends_target = False, depth = 1)
        (images, rays), (_, targets) = known_views(1, 8, size = (32, 32)), known_views(1, t, size = (8, 8))
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        scene = model.encode(images, rays)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.render(scene, targets)
        return sum(sizes.values())

    context = 2 * 8 * 16 * 32 * 4  # keys and values in bytes
    assert kept(5) - kept(2) < context


def test_where_there_is_nothing_to_share_it_is_not_used():
    q, k, v, *context = (each.detach() for each in queries_and_keys())
    assert not can_share_context(q[:SCENES], context[0])                  # one target a scene
    assert not can_share_context(q[:, :, :0], context[0])
    assert not can_share_context(q, context[0][:, :, :0])
    with sdpa_kernel(SDPBackend.MATH):                                     # by which products are counted
        assert not can_share_context(q, context[0])

    for some in (slice(0, SCENES), slice(None)):
        for length in (0, M):
            part = [each[:, :, :length] for each in context]
            out = context_attention(q[some], k[some], v[some], (part[0], part[1]), None)
            copied = [each.repeat_interleave(len(q[some]) // SCENES, dim = 0) for each in part]
            assert torch.allclose(out, attention.attention(q[some], *(torch.cat((a, b), dim = 2) for a, b in zip(copied, (k[some], v[some]), strict = True)), None), atol = 1e-5)


class Context:
    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


@torch.no_grad()
def test_flash_attention_of_gpus_is_called_as_it_wants_to_be():
    """By torch's fake tensors, which have the shapes and checks of a GPU's, and no values; without autograd, which would ask for the GPU."""
    with FakeTensorMode():
        tensors = [each.detach() for each in queries_and_keys(torch.bfloat16, device = 'cuda')]
        out = WithContext.forward(context := Context(), *tensors)
        gradients = WithContext.backward(context, torch.empty_like(out))
        assert out.shape == tensors[0].shape
        assert [each.shape for each in gradients] == [each.shape for each in tensors]
        assert {(each.device.type, each.dtype) for each in (out, *gradients)} == {('cuda', torch.bfloat16)}
