"""Masked autoencoding of posed images: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", on views.

Some views have their image masked, others their rays. The network reconstructs what is masked from the rest of the view and from the other views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from einops import rearrange
from torch import Generator, Tensor, nn
from torch.nn import Module

from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.lvsm.tokens import masked_tokens
from lvsm_pytorch.lvsm.validation import check_tokens_alone, validated_inputs

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.model import LVSM


class MAELossBreakdown(NamedTuple):
    """Mean squared errors of masked images and of masked rays; zero if none are masked."""
    image: Tensor
    ray: Tensor


class Recon(NamedTuple):
    """Reconstructions of masked views.

    Attributes:
        mask: (b v) bool, True for masked views.
        pred: Reconstructions (n ...), in the order of `mask.nonzero()`.
    """
    mask: Tensor
    pred: Tensor


class ImageAndRayRecon(NamedTuple):
    """Reconstructions of images and of rays.

    Attributes:
        images: `Recon` of (n c h w) in [0, 1].
        rays: `Recon` of (n 6 h w).
    """
    images: Recon
    rays: Recon


class MAE(Module):
    """Trains an LVSM to reconstruct masked images and rays, without target views.

    Args:
        lvsm: The model to train.
        frac_masked: Fraction of a scene's views that are masked, in (0, 1); at least one view is masked. Either the image or the rays of a masked view are masked, never both.
        frac_images_to_ray_masked: Expected fraction of the masked views whose image is masked, from 0 (rays only) to 1 (images only).
        image_to_ray_loss_weight: Weight of the squared errors of images, relative to those of rays.

    Raises:
        ValueError: If a fraction is out of range, or `lvsm` is not an LVSM.
    """

    def __init__(
        self,
        lvsm: LVSM,
        frac_masked: float = 0.5,
        frac_images_to_ray_masked: float = 0.5,
        image_to_ray_loss_weight: float = 1.,
    ):
        super().__init__()

        if not isinstance(lvsm, Module) or not hasattr(lvsm, 'tokens'):
            fail('lvsm', 'must be an LVSM', type(lvsm).__name__, 'Wrap the model itself: MAE(LVSM(...)).')

        check_tokens_alone(lvsm)

        if not 0 < frac_masked < 1:
            fail('frac_masked', 'must be above 0 and below 1', frac_masked, 'A half is usual.')

        if not 0 <= frac_images_to_ray_masked <= 1:
            fail('frac_images_to_ray_masked', 'must be from 0 to 1', frac_images_to_ray_masked, 'A half is usual.')

        if image_to_ray_loss_weight < 0:
            fail('image_to_ray_loss_weight', 'must be at least 0', image_to_ray_loss_weight, 'Use 1 to weigh images and rays alike.')

        self.lvsm = lvsm
        self.frac_masked = frac_masked
        self.frac_images_to_ray_masked = frac_images_to_ray_masked
        self.image_to_ray_loss_weight = image_to_ray_loss_weight

        self.to_rays = nn.Linear(lvsm.dim, 6 * lvsm.patch_size ** 2)

    def forward(
        self,
        images: Tensor,
        rays: Tensor,
        num_images: Tensor | None = None,
        return_image_and_ray_recon: bool = False,
        return_loss_breakdown: bool = False,
        generator: Generator | None = None,
        cameras: Cameras | None = None,
    ) -> Tensor | tuple:
        """Masks views and computes the loss: the weighted mean of the squared errors of all masked values.

        Args:
            images: (b v c h w) in [0, 1].
            rays: (b v 6 h w). At least two views per scene.
            num_images: (b), integers from 2 to v: number of valid views; the others are padding with any content.
            generator: Generator of the masks, on any device. By default masks are random in training and fixed in eval mode.
            cameras: Cameras (b v ...), required with a `camera_encoding` other than the paper's.

        Returns:
            The loss; (loss, MAELossBreakdown); (loss, ImageAndRayRecon); or (loss, (MAELossBreakdown, ImageAndRayRecon)).

        Raises:
            ValueError: As in `LVSM.tokens`, and if there are fewer than two views.
        """
        views = validated_inputs(self.lvsm, images, rays, num_images, cameras, min_views = 2)
        valid_mask = torch.ones(images.shape[:2], dtype = torch.bool, device = images.device) if views.valid_mask is None else views.valid_mask
        image_mask, ray_mask = self.draw_masks(valid_mask, generator)
        tokens = masked_tokens(self.lvsm, views.without_rays(ray_mask), image_mask)

        pred_images = self.lvsm.decode(tokens)
        pred_rays = rearrange(self.to_rays(tokens), 'b v h w (p q c) -> b v c (h p) (w q)', p = self.lvsm.patch_size, q = self.lvsm.patch_size)

        image_error, num_image_values = squared_error(pred_images, images, image_mask)
        ray_error, num_ray_values = squared_error(pred_rays, rays, ray_mask)

        loss = (image_error * self.image_to_ray_loss_weight + ray_error) / (num_image_values + num_ray_values)
        breakdown = MAELossBreakdown(image_error / num_image_values.clamp(min = 1), ray_error / num_ray_values.clamp(min = 1))

        if not return_image_and_ray_recon:
            return (loss, breakdown) if return_loss_breakdown else loss

        recon = ImageAndRayRecon(Recon(image_mask, pred_images[image_mask]), Recon(ray_mask, pred_rays[ray_mask]))
        return (loss, (breakdown, recon)) if return_loss_breakdown else (loss, recon)

    def draw_masks(self, valid_mask: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Draws masks of images and of rays of the valid views, both (b v) bool. No view has both masked."""
        device = valid_mask.device

        if generator is None and not self.training:
            generator = Generator().manual_seed(0)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator = generator, device = device if generator is None else generator.device).to(device)

        # the first views of a random order are masked, and of these the first have their image masked, the others their rays

        rank = uniform(*valid_mask.shape).masked_fill(~valid_mask, 2.).argsort(dim = -1).argsort(dim = -1)

        num_masked = (valid_mask.sum(dim = -1, keepdim = True) * self.frac_masked).long().clamp(min = 1)
        num_images_masked = (num_masked * self.frac_images_to_ray_masked + uniform(len(valid_mask), 1)).floor()  # stochastic rounding, so that the fraction is right on average

        image_mask = rank < num_images_masked
        return image_mask, (rank < num_masked) & ~image_mask


def squared_error(pred: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sum of squared differences (b v c h w) over the masked views (b v), and the number of values, both scalars."""
    is_masked = rearrange(mask, 'b v -> b v 1 1 1')
    difference = torch.where(is_masked, pred.float() - target.float(), 0.)
    return difference.square().sum(), mask.sum() * target[0, 0].numel()
