"""The paper's attention, and who attends to whom."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from lvsm_pytorch.lvsm.conditioning.base import CameraEncoding

KeysValues = tuple[Tensor, Tensor]


class SharedRMSNorm(nn.RMSNorm):
    """RMS norm of queries or keys, one weight for all heads. In the dtype of its input: under autocast torch would leave its fast path."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class AttentionLayout(NamedTuple):
    """Who attends to whom. Masks are True for what is seen, and None where all of it is: even an all-true one costs a fifth of the speed.

    shared: number of tokens that all see; keys and values of them may come from a cache.
    targets: number of targets, of equally many tokens each, after them.
    by_shared: (b 1 1 shared) or (b 1 shared shared). by_targets: (b·targets 1 1 shared + tokens of a target).
    at: (b n e), from `CameraEncoding.places`: where the tokens are that attention is asked by and of; None where it doesn't look.
    """
    shared: int
    targets: int = 0
    by_shared: Tensor | None = None
    by_targets: Tensor | None = None
    at: Tensor | None = None


class ViewAttention(Module):
    """The paper's attention: RMS norm of queries and keys with one weight for all heads, no biases. Parameters are named as x-transformers has them.

    encoding: what lets cameras in.
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

    def forward(self, x: Tensor, seen: AttentionLayout, first: int = 0, cached: KeysValues | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x: (b n d). first: tokens before it ask nothing. cached: keys and values of the shared tokens, which are then not in x.

        Returns what tokens from `first` on have read (b n-first d), and keys and values of the shared tokens (b heads shared dim_head).
        """
        # heads are split off before the norm and come forward after it: a norm over strided memory is several times slower

        at_asking = None if seen.at is None else seen.at[:, first:]
        q = self.encoding.asked(self.q_rmsnorm(self.split(self.to_q(x[:, first:]))), at_asking)
        k, v = self.encoding.known(self.k_rmsnorm(self.split(self.to_k(x))), self.split(self.to_v(x)), seen.at)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))

        if seen.targets == 0:
            return self.output(attention(q, k, v, seen.by_shared), at_asking), k, v

        if cached is None:
            (shared_k, k), (shared_v, v) = (t.tensor_split((seen.shared,), dim = 2) for t in (k, v))
            by_shared, q = q.tensor_split((max(seen.shared - first, 0),), dim = 2)
            read = attention(by_shared, shared_k, shared_v, seen.by_shared)
        else:
            shared_k, shared_v = (t.to(k.dtype) for t in cached)
            read = None

        # one batch entry a target, each with keys and values of its scene before its own: from (b h t·n d) to (b t h n d)

        q, k, v = (t.unflatten(2, (seen.targets, -1)).transpose(1, 2) for t in (q, k, v))
        k, v = (torch.cat((shared.unsqueeze(1).expand(-1, seen.targets, -1, -1, -1), own), dim = 3) for shared, own in ((shared_k, k), (shared_v, v)))
        out = attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), seen.by_targets)
        out = out.unflatten(0, (-1, seen.targets)).flatten(1, 2)
        return self.output(out if read is None else torch.cat((read, out), dim = 1), at_asking), shared_k, shared_v

    def output(self, out: Tensor, at: Tensor | None) -> Tensor:
        return self.to_out(self.encoding.read(out, at).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.dim_head))


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """(b h n d) each -> (b n h d). Without queries nothing is asked of a kernel, which may not know the case."""
    out = F.scaled_dot_product_attention(q, k, v, attn_mask = mask) if q.shape[2] > 0 else q
    return out.transpose(1, 2)
