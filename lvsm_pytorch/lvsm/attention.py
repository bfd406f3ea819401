"""The paper's attention, and its masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import Module

from lvsm_pytorch.lvsm.conditioning.base import CameraEncoding
from lvsm_pytorch.lvsm.shared_context import attend_with_context, can_share_context

KeysValues = tuple[Tensor, Tensor]


class SharedRMSNorm(nn.RMSNorm):
    """RMS norm of queries or keys, one weight for all heads. Computes in the type of its input, to keep the fast path of torch under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class AttentionLayout(NamedTuple):
    """Mask, poses and first query of an attention.

    Attributes:
        mask: (b 1 1 m) or (b 1 n m) bool, True where one of n queries attends to one of m keys. The keys are those of the context, if there is one, followed by those of the n tokens.
            None for full attention: even an all-true mask costs a fifth of the speed.
        pose: (b n e), the pose encodings of the tokens (`CameraEncoding.encode_pose`); None without camera encoding.
        query_start: Number of the first token that is a query. Tokens before it are keys and values only.
    """
    mask: Tensor | None = None
    pose: Tensor | None = None
    query_start: int = 0


# maximum number of scores of a head for plain attention, by `benchmarks/attention.py`; with more it needs much memory

MAX_PLAIN_SCORES = 2 ** 20


class ViewAttention(Module):
    """The paper's attention: RMS norm of queries and keys with one weight for all heads, no biases. Parameters have the names of x-transformers.

    Args:
        encoding: The camera encoding.
    """

    def __init__(self, dim: int, *, heads: int, dim_head: int, encoding: type[CameraEncoding]):
        super().__init__()
        self.dim_head = dim_head
        self.to_q = nn.Linear(dim, heads * dim_head, bias = False)
        self.to_k = nn.Linear(dim, heads * dim_head, bias = False)
        self.to_v = nn.Linear(dim, heads * dim_head, bias = False)
        self.q_rmsnorm = SharedRMSNorm(dim_head, eps = 1e-5)
        self.k_rmsnorm = SharedRMSNorm(dim_head, eps = 1e-5)
        self.to_out = nn.Linear(heads * dim_head, dim, bias = False)
        self.encoding = encoding

    def forward(self, x: Tensor, layout: AttentionLayout, context: KeysValues | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Computes attention of tokens to each other and to their context.

        Args:
            x: Tokens (b n d).
            layout: Mask, poses and first query.
            context: Further keys and values (s heads m dim_head) that tokens attend to. Each of s scenes has b / s entries of x.

        Returns:
            Outputs of the tokens from `query_start` on (b n-query_start d), and the keys and values of x (b heads n dim_head).
        """
        # heads are split off before the norm and come forward after it: a norm over strided memory is several times slower

        pose_q = None if layout.pose is None else layout.pose[:, layout.query_start:]
        q = self.encoding.transform_q(self.q_rmsnorm(self.split(self.to_q(x[:, layout.query_start:]))), pose_q)
        k, v = self.encoding.transform_kv(self.k_rmsnorm(self.split(self.to_k(x))), self.split(self.to_v(x)), layout.pose)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = attention(q, k, v, layout.mask) if context is None else context_attention(q, k, v, context, layout.mask)
        out = self.encoding.transform_out(out.transpose(1, 2), pose_q)
        return self.to_out(out.flatten(2)), k, v

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.dim_head))


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √d) v of queries, keys and values (b heads n d), by the fastest kernel."""
    # kernels may not support zero queries

    if q.shape[2] == 0:
        return q

    return plain_attention(q, k, v) if is_plain_faster(q, k.shape[2], mask) else F.scaled_dot_product_attention(q, k, v, attn_mask = mask)


def context_attention(q: Tensor, k: Tensor, v: Tensor, context: KeysValues, mask: Tensor | None) -> Tensor:
    """Computes attention of tokens to the context (s heads m d) of their scene and to each other. The mask covers the keys of the context, then those of the tokens."""
    context_k, context_v = (each.to(k.dtype) for each in context)

    if mask is None and can_share_context(q, context_k) and not is_plain_faster(q, context_k.shape[2] + k.shape[2], mask):
        return attend_with_context(q, k, v, context_k, context_v)

    return attention(q, after_context(context_k, k), after_context(context_v, v), mask)


def is_plain_faster(q: Tensor, num_keys: int, mask: Tensor | None) -> bool:
    """Returns whether plain attention is faster than the fused kernel: in bfloat16 on CPUs, up to a number of scores."""
    return q.dtype == torch.bfloat16 and q.device.type == 'cpu' and mask is None and q.shape[2] * num_keys <= MAX_PLAIN_SCORES


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Computes attention with all scores (b heads n m) in memory."""
    return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim = -1) @ v


def after_context(context: Tensor, own: Tensor) -> Tensor:
    """Concatenates the context (s heads m d) of a scene, repeated for its b / s entries, with their own keys or values (b heads n d): (b heads m+n d)."""
    own = own.unflatten(0, (len(context), -1))
    return torch.cat((context.unsqueeze(1).expand(-1, own.shape[1], -1, -1, -1), own), dim = 3).flatten(0, 1)


def token_mask(view_mask: Tensor | None, like: Tensor) -> Tensor | None:
    """Expands a mask of views (b v) to their tokens (b v·h·w), which have the shape of `like` (b v h w d)."""
    return None if view_mask is None else repeat(view_mask.to(like.device), 'b v -> b (v n)', n = like.shape[2] * like.shape[3])


def context_mask(view_mask: Tensor, num_tokens: int) -> Tensor:
    """Returns an attention mask (b 1 v·n v·n) bool, with which all tokens attend to the views of `view_mask` (b v). Only its own tokens attend to another view."""
    itself = torch.eye(view_mask.shape[1], dtype = torch.bool, device = view_mask.device)
    visible = rearrange(view_mask, 'b v -> b 1 v') | itself
    return repeat(visible, 'b i j -> b 1 (i n) (j m)', n = num_tokens, m = num_tokens)
