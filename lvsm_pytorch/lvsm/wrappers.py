"""Wrappers that take cameras instead of rays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import einx
import torch
from einops import einsum
from torch import Tensor
from torch.nn import Module

from lvsm_pytorch.checks import check_floating, check_shape, make_valid_mask
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras, pose
from lvsm_pytorch.geometry.rays import inverse_intrinsics, pixel_grid, rays_through
from lvsm_pytorch.precision import in_float32

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.mae import MAE
    from lvsm_pytorch.lvsm.model import LVSM


class CameraWrapper(Module):
    """Wrapper of an LVSM that takes cameras instead of rays.

    Args:
        lvsm: The model.

    Raises:
        ValueError: If `lvsm` is not an LVSM.
    """

    def __init__(self, lvsm: LVSM):
        super().__init__()

        if not isinstance(lvsm, Module) or not hasattr(lvsm, 'tokens'):
            fail('lvsm', 'must be an LVSM', type(lvsm).__name__, 'For an MAE there is MAECameraWrapper.')

        self.lvsm = lvsm

    def forward(
        self,
        *,
        input_intrinsic_rotation: Tensor,
        input_extrinsic_rotation: Tensor,
        input_translation: Tensor,
        input_uniform_points: Tensor | None = None,
        target_intrinsic_rotation: Tensor,
        target_extrinsic_rotation: Tensor,
        target_translation: Tensor,
        target_uniform_points: Tensor | None = None,
        input_images: Tensor,
        target_images: Tensor | None = None,
        num_input_images: Tensor | None = None,
        return_loss_breakdown: bool = False,
        return_embed: bool = False,
    ) -> Any:
        """Calls `LVSM.forward` with the rays of cameras.

        Args:
            input_intrinsic_rotation: (b v 3 3), intrinsics K in pixels.
            input_extrinsic_rotation: (b v 3 3), R of world to camera (OpenCV axes): x_camera = R x_world + t.
            input_translation: (b v 3), t of world to camera.
            input_uniform_points: (b v 3 h w), homogeneous pixel coordinates; by default the pixel centres.
            target_intrinsic_rotation: K of one target view (b 3 3) or of several (b t 3 3), as for the inputs.
            target_extrinsic_rotation: R of the target views, (b 3 3) or (b t 3 3).
            target_translation: t of the target views, (b 3) or (b t 3).
            target_uniform_points: Pixel coordinates of the target views, (b 3 h w) or (b t 3 h w).
            input_images: As in `LVSM.forward`.
            target_images: As in `LVSM.forward`.
            num_input_images: As in `LVSM.forward`. Cameras of padding may have any values.
            return_loss_breakdown: As in `LVSM.forward`.
            return_embed: As in `LVSM.forward`.

        Raises:
            ValueError: If a shape is wrong, or K of a valid view is not invertible.
        """
        sizes = check_shape('b v c h w', dict(c = self.lvsm.channels), input_images = input_images)
        several = isinstance(target_intrinsic_rotation, Tensor) and target_intrinsic_rotation.ndim == 4
        valid_mask = make_valid_mask(sizes, num_input_images = num_input_images)

        input_rays, input_cameras = rays_and_cameras(
            'b v', sizes, valid_mask,
            input_intrinsic_rotation = input_intrinsic_rotation,
            input_extrinsic_rotation = input_extrinsic_rotation,
            input_translation = input_translation,
            input_uniform_points = input_uniform_points,
        )

        target_rays, target_cameras = rays_and_cameras(
            'b t' if several else 'b', sizes, None,
            target_intrinsic_rotation = target_intrinsic_rotation,
            target_extrinsic_rotation = target_extrinsic_rotation,
            target_translation = target_translation,
            target_uniform_points = target_uniform_points,
        )

        return self.lvsm(
            input_images = input_images,
            input_rays = input_rays,
            target_rays = target_rays,
            target_images = target_images,
            num_input_images = num_input_images,
            return_loss_breakdown = return_loss_breakdown,
            return_embed = return_embed,
            cameras = Cameras.cat((input_cameras, target_cameras if several else target_cameras[:, None]), dim = 1),
        )


class MAECameraWrapper(Module):
    """Wrapper of an MAE that takes cameras instead of rays.

    Args:
        mae: The module.

    Raises:
        ValueError: If `mae` is not an MAE.
    """

    def __init__(self, mae: MAE):
        super().__init__()

        if not isinstance(mae, Module) or not hasattr(mae, 'frac_masked'):
            fail('mae', 'must be an MAE', type(mae).__name__, 'For an LVSM there is CameraWrapper.')

        self.mae = mae

    def forward(
        self,
        *,
        intrinsic_rotation: Tensor,
        extrinsic_rotation: Tensor,
        translation: Tensor,
        uniform_points: Tensor | None = None,
        images: Tensor,
        num_images: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls `MAE.forward` with the rays of cameras.

        Args:
            intrinsic_rotation: (b v 3 3), intrinsics K in pixels.
            extrinsic_rotation: (b v 3 3), R of world to camera (OpenCV axes): x_camera = R x_world + t.
            translation: (b v 3), t of world to camera.
            uniform_points: (b v 3 h w), homogeneous pixel coordinates; by default the pixel centres.
            images: As in `MAE.forward`.
            num_images: As in `MAE.forward`. Cameras of padding may have any values.
            kwargs: Further arguments of `MAE.forward`.

        Raises:
            ValueError: If a shape is wrong, or K of a valid view is not invertible.
        """
        sizes = check_shape('b v c h w', dict(c = self.mae.lvsm.channels), images = images)
        valid_mask = make_valid_mask(sizes, num_images = num_images)

        rays, cameras = rays_and_cameras(
            'b v', sizes, valid_mask,
            intrinsic_rotation = intrinsic_rotation,
            extrinsic_rotation = extrinsic_rotation,
            translation = translation,
            uniform_points = uniform_points,
        )

        return self.mae(images = images, rays = rays, num_images = num_images, cameras = cameras, **kwargs)


def masked(keep: Tensor, tensor: Tensor, stand_in: Tensor) -> Tensor:
    """Replaces `tensor` (b v ...) by `stand_in` (...) where `keep` (b v) is False."""
    return einx.where('b v, b v ..., ...', keep.to(tensor.device), tensor, stand_in)


@in_float32
def rays_and_cameras(leading: str, sizes: dict[str, int], valid_mask: Tensor | None, **four: Tensor | None) -> tuple[Tensor, Cameras]:
    """Returns the rays (... 6 h w) and cameras of K, R, t and points, in this order. Padding is replaced by identities."""
    (k_name, k), (r_name, r), (t_name, t), (p_name, points) = four.items()
    sizes = {axis: size for axis, size in sizes.items() if axis != 'c'}

    for name, tensor, shape in ((k_name, k, '3 3'), (r_name, r, '3 3'), (t_name, t, '3')):
        sizes = check_shape(f'{leading} {shape}', sizes, **{name: tensor})  # pyright: ignore[reportArgumentType]
        check_floating(**{name: tensor})  # pyright: ignore[reportArgumentType]

    assert k is not None
    assert r is not None
    assert t is not None

    if points is None:
        points = pixel_grid((sizes['h'], sizes['w']), device = k.device).expand(*k.shape[:-2], -1, -1, -1)
    else:
        check_shape(f'{leading} 3 h w', sizes, **{p_name: points})
        check_floating(**{p_name: points})

    if valid_mask is not None:
        identity = torch.eye(3, dtype = k.dtype, device = k.device)
        k, r = masked(valid_mask, k, identity), masked(valid_mask, r, identity)
        t = masked(valid_mask, t, torch.zeros_like(t[0, 0]))
        points = masked(valid_mask, points, torch.ones_like(points[0, 0]))

    rotation = r.mT
    centre = -einsum(rotation, t, '... i j, ... j -> ... i')
    rays = rays_through(centre, rotation, inverse_intrinsics(**{k_name: k}), points)
    return rays, Cameras(pose(rotation, centre), k)
