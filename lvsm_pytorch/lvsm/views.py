"""Checked input and target views, which the steps of the network take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.geometry.cameras import Cameras


class Views(NamedTuple):
    """Views that `validation` has checked. Missing values and padding are replaced by zeros and identities, so that their content has no effect.

    Attributes:
        rays: (b v 6 h w), zeros for views without rays.
        images: (b v c h w) in [0, 1]; None for target views.
        cameras: (b v ...), identities for views without rays; None if the network does not use cameras.
        valid_mask: (b v) bool, False for padding; None without padding.
        depth_range: (b 2), near and far distance of the scene, for input views; None if it is unknown.
        volume: Result of `PlaneSweep.sweep`, for target views.
    """
    rays: Tensor
    images: Tensor | None = None
    cameras: Cameras | None = None
    valid_mask: Tensor | None = None
    depth_range: Tensor | None = None
    volume: Any = None

    @property
    def has_rays(self) -> Tensor:
        """Mask (b v) bool of the views with rays. Directions have length 1, so rays of zeros are missing."""
        return (self.rays[:, :, :3, 0, 0] != 0).any(dim = -1)

    def without_rays(self, mask: Tensor) -> Views:
        """Removes the rays of the views of a mask (b v) bool, and their cameras, from which rays could be inferred."""
        return self._replace(rays = mask_out(mask, self.rays), cameras = mask_out_cameras(mask, self.cameras))

    def targets(self, some: slice) -> Views:
        """Returns a slice of the target views (b t ...)."""
        return Views(self.rays[:, some], cameras = None if self.cameras is None else self.cameras[:, some])


def mask_out(mask: Tensor, views: Tensor) -> Tensor:
    """Sets views (b v c h w) to zero where the mask (b v) is True. Their values, NaN included, affect neither results nor gradients."""
    return torch.where(rearrange(mask.to(views.device), 'b v -> b v 1 1 1'), views.new_zeros(()), views)


def mask_out_cameras(mask: Tensor, cameras: Cameras | None) -> Cameras | None:
    """Replaces cameras (b v ...) by identities where the mask (b v) is True."""
    return None if cameras is None else cameras.map(lambda t: torch.where(rearrange(mask.to(t.device), 'b v -> b v 1 1'), torch.eye(t.shape[-1], dtype = t.dtype, device = t.device), t))


def in_sequence(tokens: Tensor | None) -> Any:
    """Flattens tokens to a sequence: (b v h w d) -> (b v·h·w d). None stays None."""
    return None if tokens is None else rearrange(tokens, 'b v h w d -> b (v h w) d')


def chunks(length: int, size: int | None) -> Iterator[slice]:
    """Yields consecutive slices of at most `size` elements; a single slice if `size` is None."""
    size = size or max(length, 1)
    return (slice(start, start + size) for start in range(0, length, size))


def whole_patches(length: int, patch_size: int) -> int:
    """Rounds `length` up to a multiple of `patch_size`."""
    return -(-length // patch_size) * patch_size
