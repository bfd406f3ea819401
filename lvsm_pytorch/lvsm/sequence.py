"""From views to one sequence of tokens, and which of it is real."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from lvsm_pytorch.geometry.cameras import Cameras


def without(keep: Tensor | None, *views: Tensor) -> tuple[Tensor, ...]:
    """Views (b v ...), zero where `keep` (b v) is False: what they held, NaN too, reaches neither results nor gradients."""
    if keep is None:
        return views

    return tuple(torch.where(rearrange(keep.to(view.device), 'b v -> b v 1 1 1'), view, 0.) for view in views)


def drop_rays(rays: Tensor, ray_mask: Tensor | None) -> Tensor:
    return rays if ray_mask is None else without(~ray_mask, rays)[0]


def part_of(cameras: Cameras | None, views: slice) -> Cameras | None:
    """Of (b v ...) cameras some."""
    return None if cameras is None else Cameras(*(t[:, views] for t in cameras))


def real_and_not(valid_mask: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """Which views (b v) are real and not masked; None where all are."""
    if mask is None:
        return valid_mask

    return ~mask if valid_mask is None else ~mask & valid_mask.to(mask.device)


def in_sequence(tokens: Tensor | None) -> Any:
    """(b v h w d) -> (b v·h·w d). Of nothing, nothing."""
    return None if tokens is None else rearrange(tokens, 'b v h w d -> b (v h w) d')


def of_tokens(valid_mask: Tensor | None, tokens: Tensor) -> Tensor | None:
    """(b v) of views to (b v·h·w) of their tokens (b v h w d)."""
    return None if valid_mask is None else repeat(valid_mask.to(tokens.device), 'b v -> b (v n)', n = tokens[0, 0, ..., 0].numel())


def seen_mask(by_all: Tensor, num_tokens: int) -> Tensor:
    """Who attends to whom, (b 1 v·n v·n) bool, where some views (b v) are seen by all and the others by themselves alone."""
    itself = torch.eye(by_all.shape[1], dtype = torch.bool, device = by_all.device)
    seen = rearrange(by_all, 'b v -> b 1 v') | itself
    return repeat(seen, 'b i j -> b 1 (i n) (j m)', n = num_tokens, m = num_tokens)


def whole_patches(length: int, patch_size: int) -> int:
    return -(-length // patch_size) * patch_size
