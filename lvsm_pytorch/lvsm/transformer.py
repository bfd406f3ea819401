"""The transformer: `x_transformers.Encoder` with the paper's options, run without unused outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from x_transformers import Attention, Encoder, FeedForward
from x_transformers.x_transformers import LayerNorm, MultiheadRMSNorm

from lvsm_pytorch.errors import fail
from lvsm_pytorch.lvsm.attention import AttentionLayout, KeysValues, SharedRMSNorm, ViewAttention
from lvsm_pytorch.lvsm.conditioning.base import CameraEncoding


class CheckpointedAttention(Attention):
    """Attention with checkpointing, for an Encoder that runs its own forward, whose loop can't be split into blocks."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(super().forward, *args, use_reentrant = False, **kwargs)


class CheckpointedFeedForward(FeedForward):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(super().forward, *args, use_reentrant = False, **kwargs)


CHECKPOINTED: dict[type, type] = {Attention: CheckpointedAttention, FeedForward: CheckpointedFeedForward}


class PaperEncoder(Encoder):
    """The paper's transformer: pre-norm LayerNorm without bias, RMS QK-norm with one weight for all heads, feed-forward with exact GELU and factor 4, and the paper's initialisation.

    Args:
        encoding: The camera encoding.
        overrides: Flags of `x_transformers.Encoder` that override the paper's. Flags of the feed-forward (`ff_...`) keep the structure of a block, and the loop of this class runs; with
            any other flag the Encoder runs its own forward.
        gradient_checkpointing: In training, recompute each block in the backward pass. Where the Encoder runs its own forward, each attention and feed-forward is recomputed, and outputs
            of norms are kept.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, dim_head: int, encoding: type[CameraEncoding], overrides: Mapping[str, Any], gradient_checkpointing: bool):
        own = {'dim', 'depth', 'heads', 'attn_dim_head'} & set(overrides)

        if own:
            fail('decoder_kwargs', 'takes flags of x_transformers.Encoder other than its size', sorted(own), 'Pass dim, depth, heads and dim_head to LVSM itself.')

        flags = dict(
            attn_flash = True,
            attn_qk_rmsnorm = True,
            attn_project_out = True,  # without it, a single head has no output projection
            ff_no_bias = True,
            norm_add_unit_offset = False,
        )

        try:
            super().__init__(dim = dim, depth = depth, heads = heads, attn_dim_head = dim_head, **{**flags, **overrides})
        except (AssertionError, TypeError) as error:
            raise ValueError(f'decoder_kwargs: must be flags that x_transformers.Encoder takes, but got {dict(overrides)}: {error}. See its documentation for their names.') from error

        self.gradient_checkpointing = gradient_checkpointing
        self.runs_itself = not all(flag.startswith('ff_') for flag in overrides)

        # replace the Encoder's LayerNorm, and its RMS norm for each head, by norms that torch computes in one pass

        for parent in list(self.modules()):
            for name, child in parent.named_children():
                if type(child) is LayerNorm and not child.unit_offset:
                    setattr(parent, name, nn.LayerNorm(child.gamma.shape[0], bias = False))
                elif type(child) is MultiheadRMSNorm and name in ('q_rmsnorm', 'k_rmsnorm'):
                    setattr(parent, name, SharedRMSNorm(dim_head, eps = 1e-5))
                elif type(child) is Attention and not self.runs_itself:
                    setattr(parent, name, ViewAttention(dim, heads = heads, dim_head = dim_head, encoding = encoding))
                elif type(child) in CHECKPOINTED and self.runs_itself and gradient_checkpointing:
                    child.__class__ = CHECKPOINTED[type(child)]

        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialises weights from a normal distribution with std 0.02 / sqrt(2 (i + 1)) in block i. Weights that a flag sets to zero stay zero."""
        block = -1

        for _, layer, _ in self.layers:  # pyright: ignore[reportGeneralTypeIssues]
            block += any(isinstance(module, Attention | ViewAttention) for module in layer.modules())

            for module in layer.modules():
                if isinstance(module, Attention | ViewAttention):
                    linears = [module.to_q, module.to_k, module.to_v, module.to_out]
                elif isinstance(module, FeedForward):
                    linears = list(module.modules())
                else:
                    continue

                for linear in linears:
                    if isinstance(linear, nn.Linear) and (linear.weight.is_meta or linear.weight.any()):
                        nn.init.normal_(linear.weight, std = 0.02 / (2 * (max(block, 0) + 1)) ** 0.5)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Tensor,
        *,
        valid_mask: Tensor | None = None,
        mask: Tensor | None = None,
        pose: Tensor | None = None,
        query_start: int = 0,
        context: Sequence[KeysValues] = (),
        context_mask: Tensor | None = None,
        return_kv: bool = False,
    ) -> tuple[Tensor, tuple[KeysValues, ...]]:
        """Runs all blocks and the last norm.

        Args:
            x: (b n d), tokens that attend to each other and to the context.
            valid_mask: (b n) bool, False for tokens to mask out. Not with a context.
            mask: (b 1 n n) bool, an attention mask instead of `valid_mask`.
            pose: (b n e), pose encodings of the tokens.
            query_start: Number of the first token whose output is computed.
            context: Keys and values (s heads m dim_head) for each block, of s scenes with b / s entries of x each.
            context_mask: (s m) bool, False for tokens of the context to mask out.
            return_kv: Also return keys and values.

        Returns:
            Final tokens (b n-query_start d), and with `return_kv` the keys and values of x in each block (b heads n dim_head).
        """
        if self.runs_itself:
            return self.run_itself(x, valid_mask, mask, query_start, context, context_mask)

        if context_mask is not None:
            valid_mask = F.pad(repeat(context_mask, 's m -> (s t) m', t = x.shape[0] // context_mask.shape[0]), (0, x.shape[1]), value = True)

        if valid_mask is not None:
            mask = rearrange(valid_mask, 'b n -> b 1 1 n')

        keys_values = []
        depth = len(self.layers) // 2

        for index in range(depth):
            layout = AttentionLayout(mask, pose, query_start if index == depth - 1 else 0)
            inputs = (index, x, layout, context[index] if context else None)

            if self.gradient_checkpointing and torch.is_grad_enabled():
                x, *key_value = checkpoint(self.block, *inputs, use_reentrant = False)
            else:
                x, *key_value = self.block(*inputs)

            if return_kv:
                keys_values.append(tuple(key_value))

        return self.final_norm(x), tuple(keys_values)

    def block(self, index: int, x: Tensor, layout: AttentionLayout, context: KeysValues | None) -> tuple[Tensor, Tensor, Tensor]:
        """Runs a block, (b n d) -> (b n-query_start d). Also returns keys and values of x."""
        (attention_norm, *_), attend, _ = self.layers[2 * index]  # pyright: ignore[reportGeneralTypeIssues]
        (feed_forward_norm, *_), feed_forward, _ = self.layers[2 * index + 1]  # pyright: ignore[reportGeneralTypeIssues]

        attended, k, v = attend(attention_norm(x), layout, context)
        x = x[:, layout.query_start:] + attended
        return x + feed_forward(feed_forward_norm(x)), k, v

    def run_itself(
        self, x: Tensor, valid_mask: Tensor | None, mask: Tensor | None, query_start: int, context: Sequence[KeysValues], context_mask: Tensor | None,
    ) -> tuple[Tensor, tuple[KeysValues, ...]]:
        """Runs all blocks through the Encoder's own forward, which supports all of its flags."""
        run: Any = super().forward
        options: dict[str, Any] = dict(self_attn_kv_mask = valid_mask, attn_mask = mask)

        if context:
            t = len(x) // len(context[0][0])
            options['self_attn_additional_kv'] = [tuple(repeat(each, 's ... -> (s t) ...', t = t) for each in layer) for layer in context]
            options['additional_kv_mask'] = None if context_mask is None else repeat(context_mask, 's m -> (s t) m', t = t)

        x, hiddens = run(x, return_hiddens = True, **options)
        return x[:, query_start:], tuple(layer.cached_kv for layer in hiddens.attn_intermediates)
