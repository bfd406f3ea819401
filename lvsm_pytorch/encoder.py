"""The parts of the network: `x_transformers.Encoder` made the paper's, and linear maps that keep rays exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from x_transformers import Attention, Encoder, FeedForward
from x_transformers.x_transformers import LayerNorm, MultiheadRMSNorm

from lvsm_pytorch.checks import fail
from lvsm_pytorch.precision import at_least_float32, without_autocast


class Float32Linear(nn.Linear):
    """A linear map in float32, whatever autocast says and the weights are kept in: bfloat16 would move rays by whole pixels."""

    def forward(self, input: Tensor) -> Tensor:
        weight = at_least_float32(self.weight)

        with without_autocast(input.device.type):
            return F.linear(input.to(weight.dtype), weight)


class SharedRMSNorm(nn.RMSNorm):
    """RMS norm of queries or keys (b heads n d), one weight for all heads. In the dtype of its input: under autocast torch would leave its fast path."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def paper_encoder(*, dim: int, depth: int, heads: int, dim_head: int, overrides: Mapping[str, Any]) -> Encoder:
    """The paper's stack: bias-less pre-norm LayerNorm, RMS QK-norm with one weight for all heads, exact GELU × 4, and its init."""
    own = {'dim', 'depth', 'heads', 'attn_dim_head'} & set(overrides)

    if own:
        fail('decoder_kwargs', 'takes flags of x_transformers.Encoder other than its size', sorted(own), 'Say dim, depth, heads and dim_head to LVSM itself.')

    flags = dict(
        attn_flash = True,
        attn_qk_rmsnorm = True,
        attn_project_out = True,  # or one head alone silently has no output projection
        ff_no_bias = True,
        norm_add_unit_offset = False,
    )

    try:
        encoder = Encoder(dim = dim, depth = depth, heads = heads, attn_dim_head = dim_head, **{**flags, **overrides})
    except (AssertionError, TypeError) as error:
        raise ValueError(f'decoder_kwargs: must be flags that x_transformers.Encoder takes, but got {dict(overrides)}: {error}. See its documentation for their names.') from error

    # norms that torch computes in one pass, where the Encoder has its own plain LayerNorm and an RMS norm for each head

    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if type(child) is LayerNorm and not child.unit_offset:
                setattr(parent, name, nn.LayerNorm(child.gamma.shape[0], bias = False))
            elif type(child) is MultiheadRMSNorm and name in ('q_rmsnorm', 'k_rmsnorm'):
                setattr(parent, name, SharedRMSNorm(dim_head, eps = 1e-5))

    # normal with std 0.02 / sqrt(2 (i + 1)) in block i; what a flag has set to zero stays so

    block = -1

    for _, layer, _ in encoder.layers:  # pyright: ignore[reportGeneralTypeIssues]
        block += any(isinstance(module, Attention) for module in layer.modules())

        for module in layer.modules():
            if isinstance(module, Attention):
                linears = [module.to_q, module.to_k, module.to_v, module.to_out]
            elif isinstance(module, FeedForward):
                linears = list(module.modules())
            else:
                continue

            for linear in linears:
                if isinstance(linear, nn.Linear) and (linear.weight.is_meta or linear.weight.any()):
                    nn.init.normal_(linear.weight, std = 0.02 / (2 * (max(block, 0) + 1)) ** 0.5)

    return encoder
