"""Attention to a context that several sequences share, without copying the context for each of them.

The keys of a sequence are its own and those of the context. Let o₁ be the output of softmax attention to the context alone and ℓ₁ the logarithm of
its sum of exponentials, and o₂ and ℓ₂ the same for the sequence's own keys. Attention to both is

    o = e^(ℓ₁ - ℓ) o₁ + e^(ℓ₂ - ℓ) o₂,    ℓ = log(e^ℓ₁ + e^ℓ₂).

Attention to the context is one call for the queries of all sequences of a scene. Gradients are those of the two calls, each given o and ℓ, as in
ring attention (Liu et al. 2023, "Ring Attention with Blockwise Transformers for Near-Infinite Context").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def can_share_context(q: Tensor, context_keys: Tensor) -> bool:
    """Returns whether `attend_with_context` supports queries (b heads n d) and a context (s heads m d), and saves anything."""
    # compiled graphs keep attention as one operation; benchmarks turn flash attention off to count products, so no kernel may be called then

    if torch.compiler.is_compiling() or not torch.backends.cuda.flash_sdp_enabled():
        return False

    return len(q) > len(context_keys) > 0 and q.shape[2] > 0 and context_keys.shape[2] > 0 and has_kernel(q)


def has_kernel(q: Tensor) -> bool:
    """Returns whether a fused kernel that also returns ℓ is available. On GPUs it is flash attention, in half precision."""
    if q.device.type == 'cpu':
        return True

    if q.device.type != 'cuda' or torch.version.hip is not None:
        return False

    is_half = q.dtype in (torch.bfloat16, torch.float16)
    return is_half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256 and torch.cuda.get_device_capability(q.device)[0] >= 8


def attend_with_context(q: Tensor, k: Tensor, v: Tensor, context_keys: Tensor, context_values: Tensor) -> Tensor:
    """Computes attention (b heads n d) of queries to their own keys and values (b heads n d) and to the context (s heads m d) of their scene, which has b / s entries."""
    return WithContext.apply(q, k, v, context_keys, context_values)


class WithContext(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, context_keys: Tensor, context_values: Tensor) -> Tensor:
        scenes = len(context_keys)
        of_context, log_sum, *ctx.rest_of_context = fused(merge_sequences(q, scenes), context_keys, context_values)
        own, own_log_sum, *ctx.rest_of_own = fused(q, k, v)
        of_context, log_sum = split_sequences(of_context, q), split_sequences(log_sum, q)
        both = torch.logaddexp(log_sum, own_log_sum)
        out = own.lerp(of_context, (log_sum - both).exp().unsqueeze(-1).to(own.dtype))
        ctx.save_for_backward(q, k, v, context_keys, context_values, out, both)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, context_keys, context_values, out, both = ctx.saved_tensors
        all_gradients, all_q, all_out, all_both = (merge_sequences(each, len(context_keys)) for each in (gradient, q, out, both))
        of_context, of_context_keys, of_context_values = fused_backward(all_gradients, all_q, context_keys, context_values, all_out, all_both, ctx.rest_of_context)
        own, of_k, of_v = fused_backward(gradient, q, k, v, out, both, ctx.rest_of_own)
        return split_sequences(of_context, q) + own, of_k, of_v, of_context_keys, of_context_values


def merge_sequences(x: Tensor, scenes: int) -> Tensor:
    """Concatenates the sequences of each scene: (s·t heads n ...) -> (s heads t·n ...)."""
    return x.unflatten(0, (scenes, -1)).transpose(1, 2).flatten(2, 3)


def split_sequences(x: Tensor, like: Tensor) -> Tensor:
    """Splits the sequences of each scene: (s heads t·n ...) -> (s·t heads n ...), with the sizes of `like` (s·t heads n d)."""
    return x.unflatten(2, (-1, like.shape[2])).transpose(1, 2).flatten(0, 1)


def fused(q: Tensor, k: Tensor, v: Tensor) -> tuple[Any, ...]:
    """Returns softmax(q kᵀ / √d) v and ℓ (b heads n), and on GPUs the further values that its backward pass needs."""
    if q.device.type == 'cpu':
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)

    out, log_sum, starts_q, starts_k, most_q, most_k, seed, offset, _ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)
    return out, log_sum, starts_q, starts_k, most_q, most_k, seed, offset


def fused_backward(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sum: Tensor, rest: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of q, k and v, where `out` and `log_sum` belong to attention to further keys as well."""
    if q.device.type == 'cpu':
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(gradient, q, k, v, out, log_sum, 0., False)

    starts_q, starts_k, most_q, most_k, seed, offset = rest
    return torch.ops.aten._scaled_dot_product_flash_attention_backward(gradient, q, k, v, out, log_sum, starts_q, starts_k, most_q, most_k, 0., False, seed, offset)
