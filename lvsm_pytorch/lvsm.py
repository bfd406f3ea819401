"""LVSM, decoder-only: Jin et al., ICLR 2025, "LVSM: A Large View Synthesis Model with Minimal 3D Inductive Bias".

Posed photos become tokens, one a patch of pixels and their Plücker rays. A new camera is tokens too, of its rays alone.
One transformer lets all of them attend to each other, and what the new camera's tokens have become is its picture.

Letters of shapes: b batch, v input views, t target views, c channels, h w pixels (or patches, where d follows), d width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import Module

from lvsm_pytorch.cameras import Cameras
from lvsm_pytorch.checkpoint import load_strictly, read_official, read_pretrained, save_pretrained
from lvsm_pytorch.checks import check_floating, check_shape, fail, real_views
from lvsm_pytorch.encoded import EncodedScene
from lvsm_pytorch.encoder import Float32Linear, paper_encoder
from lvsm_pytorch.losses import PerceptualLoss, mse
from lvsm_pytorch.mae import MAE
from lvsm_pytorch.wrappers import CameraWrapper, MAECameraWrapper

__all__ = ['LVSM', 'MAE', 'CameraWrapper', 'Embeds', 'EncodedScene', 'LossBreakdown', 'MAECameraWrapper']


class LossBreakdown(NamedTuple):
    """The parts of the loss, before weighting. perceptual is zero where there is no perceptual loss."""
    mse: Tensor
    perceptual: Tensor


class Embeds(NamedTuple):
    """Final tokens, after the last norm.

    targets: (b t h w d), or (b h w d) for a single target.
    inputs: (b v h w d) for a single target. In the paper's mode inputs see the target, so that for several there is a set
        for each, (b t v h w d); with `input_attends_target = False` they don't, and (b v h w d) is for all.
    """
    targets: Tensor
    inputs: Tensor


class TrainedFor(NamedTuple):
    """What weights have learnt from, and may be no good far away from.

    pose_frame: how poses were normalised, in words.
    image_size: (height, width) in pixels. num_inputs: views that the model saw.
    """
    pose_frame: str
    image_size: tuple[int, int]
    num_inputs: int


# Arguments of LVSM by name. Beside them, what the paper's tables have for each, as PSNR / SSIM / LPIPS: on RealEstate10K at
# 256² from two views, trained in full or for the paper's ablation of model sizes, and on objects of ABO and GSO at 512²

SIZES: dict[str, dict[str, int]] = {
    # in full 29.67 / 0.906 / 0.098, in the ablation 28.89 / 0.894 / 0.108
    'paper-256': dict(dim = 768, depth = 24, patch_size = 8, max_image_size = 256),
    # ABO 32.10 / 0.938 / 0.045, GSO 32.36 / 0.962 / 0.028
    'paper-512': dict(dim = 768, depth = 24, patch_size = 8, max_image_size = 512),
    # in the ablation 28.77 / 0.892 / 0.109
    'paper-18-layers': dict(dim = 768, depth = 18, patch_size = 8, max_image_size = 256),
    # in the ablation 28.61 / 0.890 / 0.111
    'paper-12-layers': dict(dim = 768, depth = 12, patch_size = 8, max_image_size = 256),
    # in the ablation 27.62 / 0.869 / 0.129
    'paper-6-layers': dict(dim = 768, depth = 6, patch_size = 8, max_image_size = 256),
    # not the paper's: for tests and demos
    'tiny': dict(dim = 64, depth = 2, patch_size = 8, max_image_size = 64, dim_head = 32),
}


class LVSM(Module):
    """The paper's network.

    dim: width of a token.
    max_image_size: largest height and width of an image, in pixels; a multiple of `patch_size`.
    patch_size: height and width of a patch, in pixels.
    depth: number of transformer blocks.
    heads: attention heads, `dim // dim_head` unless said.
    dim_head: width of a head.
    channels: channels of the images.
    dropout_input_ray_prob: chance of an input view to lose its rays in a training step, from 0 up to below 1.
    perceptual_loss: called as `perceptual_loss(pred, target)` with images (n c h w) in [0, 1], its mean is added to the
        loss. It is frozen, is no part of `parameters()` and `state_dict()`, and follows the model's device.
        For example `losses.PerceptualLoss`, or any module with the same call. None by default.
    perceptual_loss_weight: its factor; 0.5 is the paper's for scenes, 1.0 for objects.
    decoder_kwargs: flags of `x_transformers.Encoder`, over those that make it the paper's.
    input_attends_target: True is the paper's network, where all tokens attend to all. With False inputs attend to inputs
        alone, so that a scene is read once, by `encode`, and each view of it costs its own tokens alone. Weights are
        of the same layout, and load in both modes.

    Errors: ValueError for arguments out of range, and for keys that the Encoder doesn't know.
    """

    def __init__(
        self,
        dim: int,
        *,
        max_image_size: int,
        patch_size: int,
        depth: int = 12,
        heads: int | None = None,
        dim_head: int = 64,
        channels: int = 3,
        dropout_input_ray_prob: float = 0.,
        perceptual_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        perceptual_loss_weight: float = 0.5,
        decoder_kwargs: Mapping[str, Any] = {},
        input_attends_target: bool = True,
    ):
        super().__init__()

        for name, value in dict(dim = dim, max_image_size = max_image_size, patch_size = patch_size, depth = depth, dim_head = dim_head, channels = channels).items():
            if not isinstance(value, int) or value < 1:
                fail(name, 'must be an integer of at least 1', repr(value), 'The paper has dim 768, depth 24, patch_size 8 at 256 pixels.')

        heads = dim // dim_head if heads is None else heads

        if not isinstance(heads, int) or heads < 1:
            fail('heads', 'must be an integer of at least 1', repr(heads), f'Left out, it is dim // dim_head, here {dim} // {dim_head}: lower dim_head or say heads.')

        if max_image_size % patch_size != 0:
            fail('max_image_size', f'must be a multiple of patch_size {patch_size}', max_image_size, f'For example {max(max_image_size // patch_size, 1) * patch_size}.')

        if not 0 <= dropout_input_ray_prob < 1:
            fail('dropout_input_ray_prob', 'must be a probability from 0 up to below 1', dropout_input_ray_prob, 'Use 0 for no dropout.')

        if perceptual_loss is not None and not callable(perceptual_loss):
            fail('perceptual_loss', 'must be a module or None', repr(perceptual_loss), 'Pass for example PerceptualLoss.from_matconvnet(path).')

        if isinstance(perceptual_loss, PerceptualLoss) and channels != 3:
            fail('perceptual_loss', 'compares images of 3 channels', f'channels = {channels}', 'Leave it out, or pass a module that takes your channels.')

        if perceptual_loss_weight < 0:
            fail('perceptual_loss_weight', 'must be at least 0', perceptual_loss_weight, 'Use 0 to switch it off.')

        self.dim = dim
        self.patch_size = patch_size
        self.max_image_size = max_image_size
        self.channels = channels
        self.dropout_input_ray_prob = dropout_input_ray_prob
        self.perceptual_loss_weight = perceptual_loss_weight
        self.decoder_kwargs = dict(decoder_kwargs)
        self.input_attends_target = input_attends_target
        self.trained_for: TrainedFor | None = None
        self.has_warned = False

        # all that it takes to make the same network again, but the perceptual loss

        self.config: dict[str, Any] = dict(
            dim = dim,
            max_image_size = max_image_size,
            patch_size = patch_size,
            depth = depth,
            heads = heads,
            dim_head = dim_head,
            channels = channels,
            dropout_input_ray_prob = dropout_input_ray_prob,
            perceptual_loss_weight = perceptual_loss_weight,
            decoder_kwargs = self.decoder_kwargs,
            input_attends_target = input_attends_target,
        )

        # a tuple, so that torch doesn't make it a submodule: it is frozen, and no part of the network

        self._perceptual_loss = (perceptual_loss,)

        if isinstance(perceptual_loss, Module):
            perceptual_loss.requires_grad_(False).eval()

        # the network

        self.to_input_tokens = Float32Linear(patch_size ** 2 * (channels + 6), dim, bias = False)
        self.to_target_tokens = Float32Linear(patch_size ** 2 * 6, dim, bias = False)
        self.norm = nn.LayerNorm(dim, bias = False)
        self.decoder = paper_encoder(dim = dim, depth = depth, heads = heads, dim_head = dim_head, overrides = decoder_kwargs)
        self.to_pixels = Float32Linear(dim, patch_size ** 2 * channels, bias = False)

        for linear in (self.to_input_tokens, self.to_target_tokens, self.to_pixels):
            nn.init.normal_(linear.weight, std = 0.02)

    @classmethod
    def from_size(cls, name: str, **changes: Any) -> LVSM:
        """A new model of one of `SIZES`, with any argument changed. Errors: ValueError for an unknown name."""
        if name not in SIZES:
            fail('name', f'must be one of {list(SIZES)}', repr(name), 'Or say the sizes themselves: LVSM(dim, ...).')

        return cls(**{**SIZES[name], **changes})

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Writes `config.json` and `model.safetensors` into a folder, each whole or not at all. Needs the extra `hub` or `train`.

        `trained_for`, where it is set, is written too. The perceptual loss is not.
        """
        save_pretrained(self, folder)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **changes: Any,
    ) -> LVSM:
        """A model that `save_pretrained` wrote, in eval mode. Weights must fit to the last key.

        folder_or_hub_id: the folder, or a model of the Hugging Face hub (extra `hub`).
        revision, token, cache_dir, force_download, local_files_only: for the hub, as `huggingface_hub` has them.
        changes: other arguments of `LVSM` than those saved, such as a larger `max_image_size`: no weight depends on it.

        Errors: ValueError for what is missing, broken, of a later format, or doesn't fit, listing the keys.
        """
        hub_options = dict(revision = revision, token = token, cache_dir = cache_dir, force_download = force_download, local_files_only = local_files_only)
        arguments, trained_for, weights = read_pretrained(folder_or_hub_id, **hub_options)
        model = cls(**{**arguments, **changes})
        load_strictly(model, weights)

        if trained_for is not None:
            model.trained_for = TrainedFor(trained_for['pose_frame'], tuple(trained_for['image_size']), trained_for['num_inputs'])

        return model.eval()

    @classmethod
    def from_official(cls, checkpoint: str | PathLike[str] | Mapping[str, Any], *, max_image_size: int = 256) -> LVSM:
        """The network of a checkpoint of the paper's authors, in eval mode; `checkpoint.to_official` is its inverse.

        checkpoint: a file, read without running any code in it, or its content, or the state dict in it. All sizes are
            taken from its tensors; entries under `loss_computer.` are passed over.
        max_image_size: largest height and width of an image, in pixels.

        The authors publish their weights for non-commercial use.
        Errors: ValueError as in `checkpoint.read_official`, which lists the keys that don't fit.
        """
        sizes, weights = read_official(checkpoint)
        dim = sizes.pop('dim')
        model = cls(dim, max_image_size = max_image_size, **sizes)
        load_strictly(model, weights)
        return model.eval()

    @property
    def perceptual_loss(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return self._perceptual_loss[0]

    def _apply(self, fn: Callable, recurse: bool = True) -> LVSM:
        """What `.to`, `.cuda` and the like call: the perceptual loss follows to the device, in its own precision."""
        super()._apply(fn, recurse)

        if isinstance(self.perceptual_loss, Module):
            self.perceptual_loss.to(self.to_pixels.weight.device)

        return self

    def forward(
        self,
        input_images: Tensor,
        input_rays: Tensor,
        target_rays: Tensor,
        target_images: Tensor | None = None,
        num_input_images: Tensor | None = None,
        return_loss_breakdown: bool = False,
        return_embed: bool = False,
        cameras: Cameras | None = None,
    ) -> Tensor | tuple[Tensor, LossBreakdown] | Embeds:
        """Paints the target views; with `target_images`, says how far off they are.

        input_images: (b v c h w) in [0, 1]; h and w are multiples of `patch_size`, up to `max_image_size`.
        input_rays: (b v 6 h w), Plücker rays as `cameras.plucker_rays` makes them, in any world frame common to a scene.
        target_rays: (b 6 h w) for one view, (b t 6 h w) for several, which don't see each other.
        target_images: (b c h w) or (b t c h w) in [0, 1], as `target_rays`.
        num_input_images: (b), integers from 1 to v: the first so many views are real; the others may hold anything.
        return_loss_breakdown: with target images, return the parts of the loss too.
        return_embed: return tokens instead.
        cameras: the (b v+t ...) cameras of inputs, then targets, for a camera encoding that wants more than rays.
            The paper's network knows cameras by their rays alone, and its result does not depend on them.

        Returns the views (b c h w) or (b t c h w) in [0, 1] without target images; with them the scalar loss,
        mean squared error + `perceptual_loss_weight` × perceptual loss, or (loss, LossBreakdown); or `Embeds`.

        Errors: ValueError for wrong shapes, types and counts.
        """
        sizes = self.check_views(input_images = input_images, input_rays = input_rays)
        is_real = real_views(sizes, num_input_images = num_input_images)
        several_targets = self.check_targets(target_rays, target_images, sizes)

        self.check_cameras(cameras, sizes['b'], sizes['v'] + (target_rays.shape[1] if several_targets else 1))

        if not several_targets:
            target_rays = rearrange(target_rays, 'b ... -> b 1 ...')

        # in training, some views may lose their rays

        ray_mask = None

        if self.training and self.dropout_input_ray_prob > 0:
            ray_mask = torch.rand(input_images.shape[:2], device = input_images.device) < self.dropout_input_ray_prob

        # the scene is read, and seen from the targets

        scene = self.read(input_images, input_rays, is_real, ray_mask)
        target_tokens, input_tokens = self.see(scene, self.target_tokens(target_rays))

        if not several_targets:
            target_tokens = rearrange(target_tokens, 'b 1 h w d -> b h w d')

            if self.input_attends_target:
                input_tokens = rearrange(input_tokens, 'b 1 v h w d -> b v h w d')

        if return_embed:
            return Embeds(target_tokens, input_tokens)

        # back to pixels

        pred = self.paint(target_tokens)

        if target_images is None:
            return pred

        loss, breakdown = self.loss(pred, target_images)
        return (loss, breakdown) if return_loss_breakdown else loss

    def encode(self, images: Tensor, rays: Tensor, num_images: Tensor | None = None, cameras: Cameras | None = None) -> EncodedScene:
        """Reads scenes, to be rendered any number of times.

        images: (b v c h w) in [0, 1]. rays: (b v 6 h w). num_images: (b), how many views are real. cameras: the (b v ...)
            cameras. All as in `forward`.

        Errors: ValueError for wrong shapes, types and counts.
        """
        sizes = self.check_views(images = images, rays = rays)
        self.check_cameras(cameras, sizes['b'], sizes['v'])
        return self.read(images, rays, real_views(sizes, num_images = num_images))

    def render(self, scene: EncodedScene, target_rays: Tensor, *, chunk_size: int | None = None) -> Tensor:
        """The views of encoded scenes, as `forward` paints them.

        scene: of b scenes, from `encode` of a model of the same mode.
        target_rays: (b 6 h w) for one view, (b t 6 h w) for several; h and w need not be the inputs'.
        chunk_size: so many views of each scene at a time, which bounds the memory; all at once where left out.

        Returns (b c h w) or (b t c h w) in [0, 1]. Errors: ValueError for wrong shapes, and for a scene of the other mode.
        """
        if not isinstance(scene, EncodedScene) or self.input_attends_target != (len(scene.keys_values) == 0):
            fail('scene', f'must be from encode() of a model with input_attends_target = {self.input_attends_target}', type(scene).__name__, 'Encode it with this model.')

        if chunk_size is not None and chunk_size < 1:
            fail('chunk_size', 'must be at least 1', chunk_size, 'Leave it out for all views at once.')

        check_floating(target_rays = target_rays)
        several = target_rays.ndim == 5
        sizes = check_shape('b t 6 h w' if several else 'b 6 h w', dict(b = len(scene.tokens)), target_rays = target_rays)
        self.check_size('target_rays', sizes)

        if not several:
            target_rays = rearrange(target_rays, 'b ... -> b 1 ...')

        chunks = target_rays.split(chunk_size or target_rays.shape[1], dim = 1)
        views = torch.cat([self.paint(self.see(scene, self.target_tokens(chunk)).targets) for chunk in chunks], dim = 1)
        return views if several else rearrange(views, 'b 1 ... -> b ...')

    def tokens(
        self,
        images: Tensor,
        rays: Tensor,
        image_mask: Tensor | None = None,
        ray_mask: Tensor | None = None,
        num_images: Tensor | None = None,
        cameras: Cameras | None = None,
    ) -> Tensor:
        """Final tokens (b v h w d) of views that see each other, for objectives built on this network.

        With `input_attends_target = False`, no other view sees a view whose image is missing.

        images: (b v c h w) in [0, 1]. rays: (b v 6 h w).
        image_mask: (b v) bool, True where a view's image is missing; the view is then a target.
        ray_mask: (b v) bool, True where a view's rays are missing; they are then zeros, which no real ray is.
        num_images: (b), integers from 1 to v: the first so many views are real; the others may hold anything.
        cameras: the (b v ...) cameras, as in `forward`.

        Errors: ValueError for wrong shapes, types and counts.
        """
        sizes = self.check_views(images = images, rays = rays)
        is_real = real_views(sizes, num_images = num_images)
        self.check_cameras(cameras, sizes['b'], sizes['v'])

        for name, mask in dict(image_mask = image_mask, ray_mask = ray_mask).items():
            if mask is not None:
                check_shape('b v', sizes, **{name: mask})

                if mask.dtype != torch.bool:
                    fail(name, 'must be boolean, True where something is missing', mask.dtype, 'Convert it with .bool().')

        images, rays = without(is_real, images, rays)

        if image_mask is None:
            tokens, seen_by_itself = self.input_tokens(images, rays, ray_mask), None
        else:
            # nothing of a masked image is computed with, so that nothing of it leaks

            images, = without(~image_mask, images)
            is_target = rearrange(image_mask, 'b v -> b v 1 1 1')
            tokens = torch.where(is_target, self.target_tokens(rays, ray_mask), self.input_tokens(images, rays, ray_mask))
            seen_by_itself = None if self.input_attends_target else image_mask

        _, v, h, w, _ = tokens.shape
        tokens = self.attend(rearrange(tokens, 'b v h w d -> b (v h w) d'), of_tokens(is_real, h * w), attn_mask = seen_mask(seen_by_itself, v, h * w))
        return rearrange(tokens, 'b (v h w) d -> b v h w d', v = v, h = h, w = w)

    def paint(self, tokens: Tensor) -> Tensor:
        """Images (... c h w) in [0, 1] of final tokens (... h w d): a linear map to the pixels of each patch, and a sigmoid."""
        pixels = rearrange(self.to_pixels(tokens), '... h w (p q c) -> ... c (h p) (w q)', p = self.patch_size, q = self.patch_size)
        return pixels.sigmoid()

    def loss(self, pred: Tensor, target: Tensor) -> tuple[Tensor, LossBreakdown]:
        """The training loss and its parts, for views (... c h w) in [0, 1]."""
        error = mse(pred, target)
        perceptual = torch.zeros_like(error)

        if self.perceptual_loss is not None and self.perceptual_loss_weight > 0:
            pred, target = (rearrange(images, '... c h w -> (...) c h w') for images in (pred, target))
            perceptual = self.perceptual_loss(pred, target.to(pred.dtype)).mean()

        return error + self.perceptual_loss_weight * perceptual, LossBreakdown(error, perceptual)

    # the steps of the network

    def input_tokens(self, images: Tensor, rays: Tensor, ray_mask: Tensor | None = None) -> Tensor:
        """(b v c h w) in [0, 1] and (b v 6 h w) -> (b v h w d)."""
        pixels = torch.cat((images * 2 - 1, drop_rays(rays, ray_mask)), dim = 2)
        return self.to_input_tokens(self.patches(pixels))

    def target_tokens(self, rays: Tensor, ray_mask: Tensor | None = None) -> Tensor:
        """(b t 6 h w) -> (b t h w d)."""
        return self.to_target_tokens(self.patches(drop_rays(rays, ray_mask)))

    def read(self, images: Tensor, rays: Tensor, is_real: Tensor | None, ray_mask: Tensor | None = None) -> EncodedScene:
        """What does not depend on any target. is_real: (b v) bool, None where all views are."""
        images, rays = without(is_real, images, rays)
        tokens = self.input_tokens(images, rays, ray_mask)
        _, v, h, w, _ = tokens.shape
        is_real = of_tokens(is_real, h * w)

        if self.input_attends_target:
            return EncodedScene(tokens, (), is_real)

        flat, hiddens = self.attend(rearrange(tokens, 'b v h w d -> b (v h w) d'), is_real, return_hiddens = True)
        keys_values = tuple(layer.cached_kv for layer in hiddens.attn_intermediates)
        return EncodedScene(rearrange(flat, 'b (v h w) d -> b v h w d', v = v, h = h, w = w), keys_values, is_real)

    def see(self, scene: EncodedScene, target_tokens: Tensor) -> Embeds:
        """Final tokens of targets (b t h w d), each of which meets its scene alone, and those of the inputs."""
        _, t, h, w, _ = target_tokens.shape
        _, v, input_h, input_w, _ = scene.tokens.shape
        targets = rearrange(target_tokens, 'b t h w d -> (b t) (h w) d')
        is_real = None if scene.is_real is None else repeat(scene.is_real, 'b n -> (b t) n', t = t)

        if not self.input_attends_target:
            keys_values = [tuple(repeat(each, 'b ... -> (b t) ...', t = t) for each in layer) for layer in scene.keys_values]
            targets = self.attend(targets, self_attn_additional_kv = keys_values, additional_kv_mask = is_real)
            return Embeds(rearrange(targets, '(b t) (h w) d -> b t h w d', t = t, h = h, w = w), scene.tokens)

        inputs = repeat(scene.tokens, 'b v h w d -> (b t) (v h w) d', t = t)

        if is_real is not None:
            is_real = F.pad(is_real, (0, h * w), value = True)

        inputs, targets = self.attend(torch.cat((inputs, targets), dim = 1), is_real).split((inputs.shape[1], h * w), dim = 1)

        return Embeds(
            rearrange(targets, '(b t) (h w) d -> b t h w d', t = t, h = h, w = w),
            rearrange(inputs, '(b t) (v h w) d -> b t v h w d', t = t, v = v, h = input_h, w = input_w),
        )

    def attend(self, tokens: Tensor, is_real: Tensor | None = None, **options: Any) -> Any:
        """(b n d) -> (b n d): norm, all blocks, norm. is_real: (b n) bool, False for tokens that nobody attends to.

        Without anything to mask there is no mask: even an all-true one costs a fifth of the speed.
        """
        return self.decoder(self.norm(tokens.to(self.norm.weight.dtype)), self_attn_kv_mask = is_real, **options)

    def patches(self, pixels: Tensor) -> Tensor:
        return rearrange(pixels, 'b v c (h p) (w q) -> b v h w (p q c)', p = self.patch_size, q = self.patch_size)

    # checks

    def check_views(self, **images_and_rays: Tensor) -> dict[str, int]:
        """The sizes b, v, h, w of images and rays that belong together."""
        (images_name, images), (rays_name, rays) = images_and_rays.items()
        check_floating(**images_and_rays)

        sizes = check_shape('b v c h w', dict(c = self.channels), **{images_name: images})
        check_shape('b v 6 h w', sizes, **{rays_name: rays})

        if sizes['v'] == 0:
            fail(images_name, 'must have at least one view', 'none', 'Pass the photos that the model may see.')

        self.warn_far_from_training(sizes)

        self.check_size(images_name, sizes)
        return sizes

    def check_size(self, name: str, sizes: dict[str, int]) -> None:
        """Whether patches cover it, and it is not too large."""
        for side in ('h', 'w'):
            if sizes[side] == 0 or sizes[side] % self.patch_size != 0 or sizes[side] > self.max_image_size:
                fail(name, f'must have height and width that are multiples of patch_size {self.patch_size}, up to max_image_size {self.max_image_size}',
                     f'{sizes["h"]} × {sizes["w"]}', 'Resize or crop the images, and make their rays for the new size.')

    def check_cameras(self, cameras: Cameras | None, batch: int, num_views: int) -> None:
        if cameras is not None:
            check_shape('b views 4 4', dict(b = batch, views = num_views), camera_to_world = cameras.camera_to_world)
            check_shape('b views 3 3', dict(b = batch, views = num_views), intrinsics = cameras.intrinsics)

    def warn_far_from_training(self, sizes: dict[str, int]) -> None:
        """Says once, outside of training, that sizes or numbers of views are more than twice or less than half of those the weights have learnt from."""
        if self.trained_for is None or self.has_warned or self.training or torch.compiler.is_compiling():
            return

        now = dict(height = sizes['h'], width = sizes['w'], inputs = sizes['v'])
        then = dict(zip(now, (*self.trained_for.image_size, self.trained_for.num_inputs), strict = True))
        far = [f'{name} {now[name]}, trained with {then[name]}' for name in now if not then[name] / 2 <= now[name] <= then[name] * 2]

        if far:
            warnings.warn(f'these weights are used far from what they were trained for: {"; ".join(far)}', stacklevel = 6)
            self.has_warned = True

    def check_targets(self, target_rays: Tensor, target_images: Tensor | None, sizes: dict[str, int]) -> bool:
        """Whether there are several targets (a t axis)."""
        check_floating(target_rays = target_rays)
        several = target_rays.ndim == 5
        axis = 't ' if several else ''
        to_do = 'Targets are one view (b 6 h w) or several (b t 6 h w), of the batch and the size of the inputs.'
        sizes = check_shape(f'b {axis}6 h w', {name: sizes[name] for name in ('b', 'c', 'h', 'w')}, to_do, target_rays = target_rays)

        if several and sizes['t'] == 0:
            fail('target_rays', 'must have at least one view', 'none', to_do)

        if target_images is not None:
            check_floating(target_images = target_images)
            to_do = 'It needs an image for every target view, as many as target_rays has, channels first.'
            check_shape(f'b {axis}c h w', sizes, to_do, target_images = target_images)

        return several


def without(keep: Tensor | None, *views: Tensor) -> tuple[Tensor, ...]:
    """Views (b v ...), zero where `keep` (b v) is False: what they held, NaN too, reaches neither results nor gradients."""
    if keep is None:
        return views

    return tuple(torch.where(rearrange(keep.to(view.device), 'b v -> b v 1 1 1'), view, 0.) for view in views)


def drop_rays(rays: Tensor, ray_mask: Tensor | None) -> Tensor:
    return rays if ray_mask is None else without(~ray_mask, rays)[0]


def of_tokens(is_real: Tensor | None, num_tokens: int) -> Tensor | None:
    """(b v) of views to (b v·n) of their tokens."""
    return None if is_real is None else repeat(is_real, 'b v -> b (v n)', n = num_tokens)


def seen_mask(seen_by_itself: Tensor | None, num_views: int, num_tokens: int) -> Tensor | None:
    """Who attends to whom, (b 1 v·n v·n) bool, where views (b v) are seen by themselves alone; None where there are none such."""
    if seen_by_itself is None:
        return None

    itself = torch.eye(num_views, dtype = torch.bool, device = seen_by_itself.device)
    seen = rearrange(~seen_by_itself, 'b v -> b 1 v') | itself
    return repeat(seen, 'b i j -> b 1 (i n) (j m)', n = num_tokens, m = num_tokens)
