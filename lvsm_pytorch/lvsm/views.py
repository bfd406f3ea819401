"""Views as the steps of the network take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import einx
import torch
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.geometry.cameras import Cameras


class Views(NamedTuple):
    """Views that are checked (`validation`), with zeros and identities for all that is missing: nothing of it is computed with.

    Attributes:
        rays: (b v 6 h w), zeros where a view has none.
        images: (b v c h w) in [0, 1]; None of target views.
        cameras: (b v ...), identities where a view has no rays; None where the network takes none.
        valid_mask: (b v) bool, False for padding; None where there is none.
        depth_range: (b 2), of input views: near and far distance of the scene; None where it is not known.
        volume: Of target views, what `PlaneSweep.sweep` has found along their rays.
    """
    rays: Tensor
    images: Tensor | None = None
    cameras: Cameras | None = None
    valid_mask: Tensor | None = None
    depth_range: Tensor | None = None
    volume: Any = None

    @property
    def has_rays(self) -> Tensor:
        """(b v) bool. Directions are of length 1, so zeros mean that there are none."""
        return (self.rays[:, :, :3, 0, 0] != 0).any(dim = -1)

    def without_rays(self, mask: Tensor) -> Views:
        """The same, but that views of the mask (b v) bool have no rays, and no cameras that would tell of them."""
        return self._replace(rays = mask_out(mask, self.rays), cameras = mask_out_cameras(mask, self.cameras))

    def targets(self, some: slice) -> Views:
        """Some of several target views (b t ...)."""
        return Views(self.rays[:, some], cameras = None if self.cameras is None else self.cameras[:, some])


def mask_out(mask: Tensor, views: Tensor) -> Tensor:
    """Views (b v c h w), zero where the mask (b v) is True: what they held, NaN too, reaches neither results nor gradients."""
    return einx.where('b v, , b v c h w', mask.to(views.device), views.new_zeros(()), views)


def mask_out_cameras(mask: Tensor, cameras: Cameras | None) -> Cameras | None:
    """Cameras (b v ...), with identities where the mask (b v) is True."""
    return None if cameras is None else cameras.map(lambda t: einx.where('b v, i j, b v i j', mask.to(t.device), torch.eye(t.shape[-1], dtype = t.dtype, device = t.device), t))


def in_sequence(tokens: Tensor | None) -> Any:
    """(b v h w d) -> (b v·h·w d). Of nothing, nothing."""
    return None if tokens is None else rearrange(tokens, 'b v h w d -> b (v h w) d')


def chunks(length: int, size: int | None) -> Iterator[slice]:
    """Slices of so many, one after the other; one of all where size is None."""
    size = size or max(length, 1)
    return (slice(start, start + size) for start in range(0, length, size))


def whole_patches(length: int, patch_size: int) -> int:
    """The smallest multiple of `patch_size` that is at least `length`."""
    return -(-length // patch_size) * patch_size
