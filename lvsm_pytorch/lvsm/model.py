"""LVSM, decoder-only: Jin et al., ICLR 2025, "LVSM: A Large View Synthesis Model with Minimal 3D Inductive Bias".

Posed photos become tokens, one a patch of pixels and their Plücker rays. A new camera is tokens too, of its rays alone.
One transformer lets all of them attend to each other, and what the new camera's tokens have become is its picture.

Letters of shapes: b batch, v input views, t target views, c channels, h w pixels (or patches, where d follows), d width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import Module

from lvsm_pytorch.checks import check_floating, check_shape, make_valid_mask
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.lvsm.allocator import tune_malloc
from lvsm_pytorch.lvsm.conditioning.base import CameraEncoding, camera_rays, reference_pose
from lvsm_pytorch.lvsm.conditioning.plane_sweep import PlaneSweep, SourceViews, SweepVolume
from lvsm_pytorch.lvsm.conditioning.prope import Prope
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.losses import mse
from lvsm_pytorch.lvsm.official import read_official
from lvsm_pytorch.lvsm.pretrained import TrainedFor, load_strictly, read_pretrained, save_pretrained
from lvsm_pytorch.lvsm.sequence import drop_rays, in_sequence, of_tokens, part_of, real_and_not, seen_mask, without
from lvsm_pytorch.lvsm.transformer import PaperEncoder
from lvsm_pytorch.lvsm.validation import check_arguments, check_cameras, check_size, check_targets, check_views
from lvsm_pytorch.precision import Float32Linear


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


# Arguments of LVSM by name. Above them, what the paper's tables have for each, as PSNR / SSIM / LPIPS: on RealEstate10K at
# 256² from two views, trained in full or for the paper's ablation of model sizes, and on objects of ABO and GSO at 512²

SIZES: dict[str, dict[str, Any]] = {
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
    # not the paper's: what sees after the fewest steps (README, "Sees sooner"), in the paper's size
    'modern-256': dict(dim = 768, depth = 24, patch_size = 8, max_image_size = 256, camera_encoding = 'prope', num_depth_planes = 32, near_plane = 1., input_attends_target = False),
    # for tests and demos
    'tiny': dict(dim = 64, depth = 2, patch_size = 8, max_image_size = 64, dim_head = 32),
}


CAMERA_ENCODINGS: dict[str, type[CameraEncoding]] = dict(plucker = CameraEncoding, prope = Prope)


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
    camera_encoding: 'plucker' is the paper's, where tokens know of cameras by their rays alone. With 'prope' attention sees how cameras lie to
        each other (`prope`). Tokens then take directions in the frame of their own camera, so that moving the whole world changes
        nothing, and `forward`, `encode`, `render` and `tokens` need `cameras`. `dim_head` must be a multiple of 8.
    num_depth_planes: at so many depths along the rays of a target, it is looked up what the input views show there (`sweep`), and a target's
        tokens take this in, and choose for each pixel how much of it is taken and how much is rendered. 0 is the paper's. With any,
        `forward`, `encode` and `render` need `cameras`, and there is no `tokens`.
    near_plane: of these depths the nearest, in units of the world of the rays; the farthest is infinite, and between them inverse depths are evenly spread.
    gradient_checkpointing: in training keep no more than a block's input, and compute the block anew for its gradients: less memory
        for a third more time. No part of a saved config.

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
        camera_encoding: Literal['plucker', 'prope'] = 'plucker',
        num_depth_planes: int = 0,
        near_plane: float = 0.5,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()

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
            decoder_kwargs = dict(decoder_kwargs),
            input_attends_target = input_attends_target,
            camera_encoding = camera_encoding,
            num_depth_planes = num_depth_planes,
            near_plane = near_plane,
        )

        check_arguments(self.config, perceptual_loss, CAMERA_ENCODINGS)
        self.config['heads'] = heads = dim // dim_head if heads is None else heads
        encoding = CAMERA_ENCODINGS[camera_encoding]

        if dim_head % encoding.dim_head_multiple != 0:
            fail('dim_head', f'must be a multiple of {encoding.dim_head_multiple} with camera_encoding = {camera_encoding!r}', dim_head, 'Its dimensions are taken in groups: use for example 64.')

        tune_malloc()

        self.dim = dim
        self.patch_size = patch_size
        self.max_image_size = max_image_size
        self.channels = channels
        self.dropout_input_ray_prob = dropout_input_ray_prob
        self.perceptual_loss_weight = perceptual_loss_weight
        self.decoder_kwargs = self.config['decoder_kwargs']
        self.input_attends_target = input_attends_target
        self.camera_encoding = camera_encoding
        self.num_depth_planes = num_depth_planes
        self.trained_for: TrainedFor | None = None
        self.has_warned = False

        # a tuple, so that torch doesn't make it a submodule: it is frozen, and no part of the network

        self._perceptual_loss = (perceptual_loss,)

        if isinstance(perceptual_loss, Module):
            perceptual_loss.requires_grad_(False).eval()

        # the network

        ray_channels = 6 if camera_encoding == 'plucker' else 3
        self.to_input_tokens = Float32Linear(patch_size ** 2 * (channels + ray_channels), dim, bias = False)
        self.to_target_tokens = Float32Linear(patch_size ** 2 * ray_channels, dim, bias = False)
        self.norm = nn.LayerNorm(dim, bias = False)
        self.decoder = PaperEncoder(
            dim = dim, depth = depth, heads = heads, dim_head = dim_head, encoding = encoding,
            overrides = decoder_kwargs, gradient_checkpointing = gradient_checkpointing,
        )
        self.to_pixels = Float32Linear(dim, patch_size ** 2 * channels, bias = False)
        self.sweep = PlaneSweep(dim, patch_size = patch_size, channels = channels, depths = num_depth_planes, nearest = near_plane, checkpointing = gradient_checkpointing) if num_depth_planes > 0 else None

        if camera_encoding != 'plucker' and self.decoder.runs_itself:
            fail('decoder_kwargs', f'must be flags of the feed-forward alone (ff_...) with camera_encoding = {camera_encoding!r}', list(decoder_kwargs), 'Other flags replace our attention, which sees the cameras.')

        for linear in (self.to_input_tokens, self.to_target_tokens, self.to_pixels):
            nn.init.normal_(linear.weight, std = 0.02)

    @classmethod
    def from_size(cls, name: str, **changes: Any) -> LVSM:
        """A new model of one of `SIZES`, with any argument changed. Errors: ValueError for an unknown name."""
        if name not in SIZES:
            fail('name', f'must be one of {list(SIZES)}', repr(name), 'Or say the sizes themselves: LVSM(dim, ...).')

        return cls(**{**SIZES[name], **changes})

    def save_pretrained(self, folder: str | PathLike[str], *, dtype: torch.dtype | None = None) -> None:
        """Writes `config.json` and `model.safetensors` into a folder, each whole or not at all. Needs the extra `hub` or `train`.

        dtype: of the weights in the file, as they are unless said; `torch.float16` halves it. They are read back into float32.
        `trained_for`, where it is set, is written too. The perceptual loss is not.
        """
        save_pretrained(self, folder, dtype = dtype)

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

        folder_or_hub_id: the folder, 'solids-128' for the small model that comes with the library (it sees built-in synthetic scenes),
            or a model of the Hugging Face hub (extra `hub`).
        revision, token, cache_dir, force_download, local_files_only: for the hub, as `huggingface_hub` has them.
        changes: other arguments of `LVSM` than those saved, such as a larger `max_image_size`: no weight depends on it.

        Errors: ValueError for what is missing, broken, of a later format, or doesn't fit, listing the keys.
        """
        hub_options = dict(revision = revision, token = token, cache_dir = cache_dir, force_download = force_download, local_files_only = local_files_only)
        arguments, trained_for, weights = read_pretrained(folder_or_hub_id, **hub_options)
        model = cls(**{**arguments, **changes})
        load_strictly(model, weights)
        model.trained_for = trained_for
        return model.eval()

    @classmethod
    def from_official(cls, checkpoint: str | PathLike[str] | Mapping[str, Any], *, max_image_size: int = 256) -> LVSM:
        """The network of a checkpoint of the paper's authors, in eval mode; `official.to_official` is its inverse.

        checkpoint: a file, read without running any code in it, or its content, or the state dict in it. All sizes are
            taken from its tensors; entries under `loss_computer.` are passed over.
        max_image_size: largest height and width of an image, in pixels.

        The authors publish their weights for non-commercial use.
        Errors: ValueError as in `official.read_official`, which lists the keys that don't fit.
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
        """What `.to`, `.cuda` and the like call: the perceptual loss follows to the device, in its own precision. Not to meta, from where nobody would bring it back."""
        super()._apply(fn, recurse)

        if isinstance(self.perceptual_loss, Module) and not self.to_pixels.weight.is_meta:
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
        """Renders the target views; with `target_images`, says how far off they are.

        input_images: (b v c h w) in [0, 1]; h and w are multiples of `patch_size`, up to `max_image_size`.
        input_rays: (b v 6 h w), Plücker rays as `geometry.plucker_rays` makes them, in any world frame common to a scene.
        target_rays: (b 6 h w) for one view, (b t 6 h w) for several, which don't see each other.
        target_images: (b c h w) or (b t c h w) in [0, 1], as `target_rays`.
        num_input_images: (b), integers from 1 to v: the first so many views are real; the others may hold anything.
        return_loss_breakdown: with target images, return the parts of the loss too.
        return_embed: return tokens instead.
        cameras: the (b v+t ...) cameras of inputs, then targets, as `camera_encoding` or `num_depth_planes` other than the paper's need them.
            The paper's network knows cameras by their rays alone, and its result does not depend on them.

        Returns the views (b c h w) or (b t c h w) in [0, 1] without target images; with them the scalar loss,
        mean squared error + `perceptual_loss_weight` × perceptual loss, or (loss, LossBreakdown); or `Embeds`.

        Errors: ValueError for wrong shapes, types and counts.
        """
        sizes = check_views(self, input_images = input_images, input_rays = input_rays)
        valid_mask = make_valid_mask(sizes, num_input_images = num_input_images)
        several_targets = check_targets(target_rays, target_images, sizes)

        check_cameras(self, cameras, sizes['b'], sizes['v'] + (target_rays.shape[1] if several_targets else 1))

        if not several_targets:
            target_rays = rearrange(target_rays, 'b ... -> b 1 ...')

        # in training, some views may lose their rays

        ray_mask = None

        if self.training and self.dropout_input_ray_prob > 0:
            ray_mask = torch.rand(input_images.shape[:2], device = input_images.device) < self.dropout_input_ray_prob

        # tokens of all views, and what becomes of them

        input_images, input_rays = without(valid_mask, input_images, input_rays)
        has_rays = real_and_not(valid_mask, ray_mask)
        reference = self.reference(cameras, has_rays)
        input_cameras, target_cameras = part_of(cameras, slice(sizes['v'])), part_of(cameras, slice(sizes['v'], None))
        sweep_volume = self.sweep_volume(self.photos(input_images, input_cameras, has_rays), target_rays, target_cameras)
        input_rays, input_at = self.placed(input_rays, input_cameras, reference, has_rays)
        target_rays, target_at = self.placed(target_rays, target_cameras, reference)

        inputs, targets = self.input_tokens(input_images, input_rays, ray_mask), self.target_tokens(target_rays, sweep_volume = sweep_volume)
        target_tokens, input_tokens = self.see(inputs, targets, of_tokens(valid_mask, inputs), input_at, target_at, inputs_too = return_embed)

        if return_embed:
            target_tokens = target_tokens if several_targets else rearrange(target_tokens, 'b 1 h w d -> b h w d')
            _, v, h, w, _ = inputs.shape
            input_tokens = rearrange(input_tokens, '(b t) (v h w) d -> b t v h w d', b = len(inputs), v = v, h = h, w = w)
            return Embeds(target_tokens, input_tokens if self.input_attends_target and several_targets else input_tokens[:, 0])

        # back to pixels

        pred = self.views(target_tokens, sweep_volume)

        if not several_targets:
            pred = rearrange(pred, 'b 1 c h w -> b c h w')

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
        sizes = check_views(self, images = images, rays = rays)
        check_cameras(self, cameras, sizes['b'], sizes['v'])
        valid_mask = make_valid_mask(sizes, num_images = num_images)
        images, rays = without(valid_mask, images, rays)
        reference = self.reference(cameras, valid_mask)
        photos = self.photos(images, cameras, valid_mask)
        rays, at = self.placed(rays, cameras, reference, valid_mask)
        inputs = self.input_tokens(images, rays)
        valid_mask = of_tokens(valid_mask, inputs)

        if self.input_attends_target:
            return EncodedScene(inputs, (), valid_mask, at, reference, photos)

        # nobody reads what becomes of the inputs' tokens themselves

        n = inputs[0, ..., 0].numel()
        _, keys_values = self.decoder(in_sequence(inputs), shared = n, first = n, valid_mask = valid_mask, keep = True, at = in_sequence(at))
        return EncodedScene(None, tuple((k.contiguous(), v.contiguous()) for k, v in keys_values), valid_mask, None, reference, photos)

    def render(self, scene: EncodedScene, target_rays: Tensor, *, cameras: Cameras | None = None, chunk_size: int | None = None) -> Tensor:
        """The views of encoded scenes, as `forward` renders them.

        scene: of b scenes, from `encode` of a model of the same mode.
        target_rays: (b 6 h w) for one view, (b t 6 h w) for several; h and w need not be the inputs'.
        cameras: their (b ...) or (b t ...) cameras, in the world of the scene's, as `camera_encoding` or `num_depth_planes` other than the paper's need them.
        chunk_size: so many views of each scene at a time, which bounds the memory; all at once where left out.

        Returns (b c h w) or (b t c h w) in [0, 1]. Errors: ValueError for wrong shapes, and for a scene of the other mode.
        """
        if not isinstance(scene, EncodedScene) or self.input_attends_target != (len(scene.keys_values) == 0):
            fail('scene', f'must be from encode() of a model with input_attends_target = {self.input_attends_target}', type(scene).__name__, 'Encode it with this model.')

        if (scene.reference is None) != (self.camera_encoding == 'plucker'):
            fail('scene', f'must be from encode() of a model with camera_encoding = {self.camera_encoding!r}', 'one of another', 'Encode it with this model.')

        if (scene.photos is None) != (self.sweep is None):
            fail('scene', f'must be from encode() of a model with num_depth_planes = {self.num_depth_planes}', 'one of another', 'Encode it with this model.')

        if chunk_size is not None and chunk_size < 1:
            fail('chunk_size', 'must be at least 1', chunk_size, 'Leave it out for all views at once.')

        check_floating(target_rays = target_rays)
        several = target_rays.ndim == 5
        sizes = check_shape('b t 6 h w' if several else 'b 6 h w', dict(b = scene.num_scenes), target_rays = target_rays)
        check_size(self, 'target_rays', sizes)

        if not several:
            target_rays = rearrange(target_rays, 'b ... -> b 1 ...')
            cameras = None if cameras is None else Cameras(*(rearrange(t, 'b ... -> b 1 ...') for t in cameras))

        check_cameras(self, cameras, scene.num_scenes, target_rays.shape[1])

        def chunk(start: int, end: int) -> Tensor:
            rays, of_chunk = target_rays[:, start:end], part_of(cameras, slice(start, end))
            sweep_volume = self.sweep_volume(scene.photos, rays, of_chunk)
            rays, at = self.placed(rays, of_chunk, scene.reference)
            return self.views(self.see_encoded(scene, self.target_tokens(rays, sweep_volume = sweep_volume), at), sweep_volume)

        num_targets = target_rays.shape[1]
        step = chunk_size or max(num_targets, 1)
        views = torch.cat([chunk(start, start + step) for start in range(0, max(num_targets, 1), step)], dim = 1)
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

        Errors: ValueError for wrong shapes, types and counts, and with `num_depth_planes`, where pixels are not of tokens alone.
        """
        if self.sweep is not None:
            fail('num_depth_planes', 'must be 0 for tokens() and what is built on it, such as MAE', self.num_depth_planes, 'What a new view shows is there looked up in others, and not said by tokens alone.')

        sizes = check_views(self, images = images, rays = rays)
        valid_mask = make_valid_mask(sizes, num_images = num_images)
        check_cameras(self, cameras, sizes['b'], sizes['v'])

        for name, mask in dict(image_mask = image_mask, ray_mask = ray_mask).items():
            if mask is not None:
                check_shape('b v', sizes, **{name: mask})

                if mask.dtype != torch.bool:
                    fail(name, 'must be boolean, True where something is missing', mask.dtype, 'Convert it with .bool().')

        images, rays = without(valid_mask, images, rays)
        has_rays = real_and_not(valid_mask, ray_mask)
        rays, at = self.placed(rays, cameras, self.reference(cameras, has_rays), has_rays)

        if image_mask is None:
            tokens = self.input_tokens(images, rays, ray_mask)
        else:
            # nothing of a masked image is computed with, so that nothing of it leaks

            images, = without(~image_mask, images)
            image_mask = image_mask.to(images.device)
            is_target = rearrange(image_mask, 'b v -> b v 1 1 1')
            tokens = torch.where(is_target, self.target_tokens(rays, ray_mask), self.input_tokens(images, rays, ray_mask))

        _, v, h, w, _ = tokens.shape

        by_all = None if image_mask is None or self.input_attends_target else real_and_not(valid_mask, image_mask)
        seen = dict(valid_mask = of_tokens(valid_mask, tokens)) if by_all is None else dict(mask = seen_mask(by_all, h * w))
        tokens, _ = self.decoder(in_sequence(tokens), shared = v * h * w, at = in_sequence(at), **seen)
        return rearrange(tokens, 'b (v h w) d -> b v h w d', v = v, h = h, w = w)

    def decode(self, tokens: Tensor) -> Tensor:
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

    def photos(self, images: Tensor, cameras: Cameras | None, has_rays: Tensor | None) -> SourceViews | None:
        """Input views (b v ...) for targets to look colours up, where they do."""
        return None if cameras is None or self.sweep is None else SourceViews(images, *cameras, has_rays)

    def sweep_volume(self, photos: SourceViews | None, target_rays: Tensor, cameras: Cameras | None) -> SweepVolume | None:
        """What photos show along the rays (b t 6 h w) of cameras (b t ...)."""
        return None if photos is None or cameras is None or self.sweep is None else self.sweep(photos, target_rays, cameras)

    def views(self, tokens: Tensor, sweep_volume: SweepVolume | None) -> Tensor:
        """(b t c h w) of final tokens (b t h w d)."""
        rendered = self.decode(tokens)
        return rendered if sweep_volume is None or self.sweep is None else self.sweep.composite(rendered, tokens, sweep_volume)

    def reference(self, cameras: Cameras | None, has_rays: Tensor | None) -> Tensor | None:
        """Of the (b v ...) cameras that which all are told by, where attention sees them."""
        return None if cameras is None or self.camera_encoding == 'plucker' else reference_pose(cameras.camera_to_world, has_rays)

    def placed(self, rays: Tensor, cameras: Cameras | None, reference: Tensor | None, has_rays: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Rays (b v 6 h w) as tokens take them, and where these are (b v h w e), as attention takes it."""
        if cameras is None or reference is None:
            return rays, None

        directions = camera_rays(rays, cameras.camera_to_world, has_rays)
        places = CAMERA_ENCODINGS[self.camera_encoding].places
        return directions, places(directions, *cameras, reference, has_rays, patch_size = self.patch_size, dim_head = self.config['dim_head'])

    def input_tokens(self, images: Tensor, rays: Tensor, ray_mask: Tensor | None = None) -> Tensor:
        """(b v c h w) in [0, 1] and (b v 6 h w) -> (b v h w d)."""
        pixels = torch.cat((images * 2 - 1, drop_rays(rays, ray_mask)), dim = 2)
        return self.normed(self.to_input_tokens(self.patches(pixels)))

    def target_tokens(self, rays: Tensor, ray_mask: Tensor | None = None, sweep_volume: SweepVolume | None = None) -> Tensor:
        """(b t 6 h w) -> (b t h w d)."""
        tokens = self.to_target_tokens(self.patches(drop_rays(rays, ray_mask)))
        return self.normed(tokens if sweep_volume is None or self.sweep is None else tokens + self.sweep.tokens(sweep_volume))

    def see(
        self, inputs: Tensor, targets: Tensor, valid_mask: Tensor | None, input_at: Tensor | None, target_at: Tensor | None, *, inputs_too: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Final tokens of targets (b t h w d), each of which meets its scene alone, and those of the inputs where they are asked for.

        inputs: (b v h w d). valid_mask: (b v·h·w) bool, None where all are. input_at, target_at: where they are, from `placed`.
        Those of the inputs come back as (b v·h·w d), in the paper's mode as (b·t v·h·w d): there each target changes them.
        """
        _, t, h, w, _ = targets.shape
        n = inputs[0, ..., 0].numel()
        first = 0 if inputs_too else n

        def together(inputs: Tensor, targets: Tensor) -> Tensor:
            if self.input_attends_target:
                inputs, targets = repeat(inputs, 'b v h w d -> (b t) v h w d', t = t), rearrange(targets, 'b t h w d -> (b t) 1 h w d')

            return torch.cat((in_sequence(inputs), in_sequence(targets)), dim = 1)

        x = together(inputs, targets)
        at = None if input_at is None or target_at is None else together(input_at, target_at)

        if self.input_attends_target:
            valid_mask = None if valid_mask is None else F.pad(repeat(valid_mask, 'b n -> (b t) n', t = t), (0, h * w), value = True)
            x, _ = self.decoder(x, shared = n + h * w, first = first, valid_mask = valid_mask, at = at)
        else:
            x, _ = self.decoder(x, shared = n, targets = t, first = first, valid_mask = valid_mask, at = at)

        inputs, targets = x.tensor_split((n - first,), dim = 1)
        return targets.reshape(-1, t, h, w, self.dim), inputs

    def see_encoded(self, scene: EncodedScene, targets: Tensor, target_at: Tensor | None) -> Tensor:
        """Final tokens of targets (b t h w d)."""
        if scene.tokens is not None:
            return self.see(scene.tokens, targets, scene.valid_mask, scene.at, target_at)[0]

        _, t, h, w, _ = targets.shape
        shared = scene.keys_values[0][0].shape[2]
        x, _ = self.decoder(in_sequence(targets), shared = shared, targets = t, valid_mask = scene.valid_mask, cached = scene.keys_values, at = in_sequence(target_at))
        return rearrange(x, 'b (t h w) d -> b t h w d', t = t, h = h, w = w)

    def normed(self, tokens: Tensor) -> Tensor:
        """As they enter the blocks, in the blocks' precision."""
        return self.norm(tokens.to(self.norm.weight.dtype))

    def patches(self, pixels: Tensor) -> Tensor:
        return rearrange(pixels, 'b v c (h p) (w q) -> b v h w (p q c)', p = self.patch_size, q = self.patch_size)
