"""LVSM, decoder-only: Jin et al., ICLR 2025, "LVSM: A Large View Synthesis Model with Minimal 3D Inductive Bias".

Each patch of an input image and its Plücker rays becomes a token; each patch of a target view becomes a token of its rays alone. One transformer
attends over all of them, and the final tokens of the target are decoded to its pixels.

Letters of shapes: b batch, v input views, t target views, c channels, h w pixels (or patches, where d follows), d width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import Module

from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.lvsm.attention import token_mask
from lvsm_pytorch.lvsm.conditioning import CAMERA_ENCODINGS, PLANE_SWEEPS, NoPlaneSweep
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.losses import LossBreakdown, ViewLoss
from lvsm_pytorch.lvsm.pretrained import Pretrained
from lvsm_pytorch.lvsm.tokens import Embeds, embed_views, masked_tokens
from lvsm_pytorch.lvsm.transformer import PaperEncoder
from lvsm_pytorch.lvsm.validation import check_arguments, check_masks, check_tokens_alone, validated, validated_inputs, validated_targets
from lvsm_pytorch.lvsm.views import Views, chunks, in_sequence
from lvsm_pytorch.precision import Float32Linear


class LVSM(Pretrained, Module):
    """The paper's network.

    Args:
        dim: Width of a token.
        max_image_size: Default height and width of images in pixels, a multiple of `patch_size`. No weight depends on it, so that larger images only give a warning.
        patch_size: Height and width of a patch, in pixels.
        depth: Number of transformer blocks.
        heads: Attention heads, `dim // dim_head` by default.
        dim_head: Width of a head.
        channels: Channels of the images.
        dropout_input_ray_prob: Probability in [0, 1) that an input view loses its rays in a training step.
        perceptual_loss: Called as `perceptual_loss(pred, target)` with images (n c h w) in [0, 1]; its mean is added to the loss. It is frozen and moved to the device of the model, but
            is not part of `parameters()` and `state_dict()`. For example `losses.PerceptualLoss`, or any module with the same call. None by default.
        perceptual_loss_weight: Weight of the perceptual loss; the paper uses 0.5 for scenes and 1.0 for objects.
        decoder_kwargs: Flags of `x_transformers.Encoder` that override the paper's.
        input_attends_target: With True, the paper's network, all tokens attend to all. With False, input tokens attend to input tokens only: a scene is encoded once as a key-value
            cache, and each view costs only its own tokens. Weights load in both modes.
        camera_encoding: With 'plucker', the paper's, cameras enter as rays of the tokens only. With 'prope', attention uses relative camera poses (`prope`). The rays of tokens are then
            directions in the frame of their own camera, so that moving the world changes nothing, and all calls need `cameras`. `dim_head` must be a multiple of 8.
        num_depth_planes: Number of planes of a plane sweep, which samples the input views at these depths along the rays of a target. The samples are added to target tokens, and
            composited with the decoded view by weights of each pixel. 0 is the paper's. Otherwise `forward`, `encode` and `render` need `cameras`, and `tokens` is not available.
        near_plane: Depth of the nearest plane, in units of the world of the rays. The farthest is infinite; inverse depths are evenly spaced.
        plane_sweep: What the planes compare, one of `conditioning.PLANE_SWEEPS`: 'colors', or 'features' of a small CNN, from coarse to fine (`feature_sweep`).
        image_loss: As in `losses.ViewLoss`. The default is the paper's.
        ssim_loss_weight: As in `losses.ViewLoss`.
        depth_loss_weight: As in `losses.ViewLoss`.
        gradient_checkpointing: Recompute each block in the backward pass, which saves memory and takes a third more time. Not part of a saved config.

    Raises:
        ValueError: If an argument is out of range, or the Encoder does not have a flag.
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
        plane_sweep: Literal['colors', 'features'] = 'colors',
        image_loss: Literal['mse', 'rmse'] = 'mse',
        ssim_loss_weight: float = 0.,
        depth_loss_weight: float = 0.05,
        gradient_checkpointing: bool = False,
    ):
        # all arguments of the network except the perceptual loss

        config: dict[str, Any] = dict(
            dim = dim, max_image_size = max_image_size, patch_size = patch_size, depth = depth, heads = heads, dim_head = dim_head, channels = channels,
            dropout_input_ray_prob = dropout_input_ray_prob, perceptual_loss_weight = perceptual_loss_weight, decoder_kwargs = dict(decoder_kwargs),
            input_attends_target = input_attends_target, camera_encoding = camera_encoding,
            num_depth_planes = num_depth_planes, near_plane = near_plane, plane_sweep = plane_sweep,
            image_loss = image_loss, ssim_loss_weight = ssim_loss_weight, depth_loss_weight = depth_loss_weight,
        )

        check_arguments(config, perceptual_loss)
        config['heads'] = heads = dim // dim_head if heads is None else heads
        super().__init__(config)

        self.dim = dim
        self.dim_head = dim_head
        self.patch_size = patch_size
        self.max_image_size = max_image_size
        self.channels = channels
        self.dropout_input_ray_prob = dropout_input_ray_prob
        self.input_attends_target = input_attends_target
        self.camera_encoding = camera_encoding
        self.num_depth_planes = num_depth_planes
        self.warned_of: set[str] = set()

        self.encoding = encoding = CAMERA_ENCODINGS[camera_encoding]
        self.to_input_tokens = Float32Linear(patch_size ** 2 * (channels + encoding.ray_channels), dim, bias = False)
        self.to_target_tokens = Float32Linear(patch_size ** 2 * encoding.ray_channels, dim, bias = False)
        self.norm = nn.LayerNorm(dim, bias = False)
        self.transformer = PaperEncoder(
            dim = dim, depth = depth, heads = heads, dim_head = dim_head, encoding = encoding,
            overrides = decoder_kwargs, gradient_checkpointing = gradient_checkpointing,
        )
        self.to_pixels = Float32Linear(dim, patch_size ** 2 * channels, bias = False)
        self.plane_sweep = NoPlaneSweep() if num_depth_planes == 0 else PLANE_SWEEPS[plane_sweep](
            dim, patch_size = patch_size, channels = channels, num_depth_planes = num_depth_planes, near_plane = near_plane, gradient_checkpointing = gradient_checkpointing,
        )
        self.needs_cameras = encoding.needs_cameras or self.plane_sweep.needs_cameras

        if encoding.needs_cameras and self.transformer.runs_itself:
            fail('decoder_kwargs', f'must be flags of the feed-forward alone (ff_...) with camera_encoding = {camera_encoding!r}', list(decoder_kwargs), 'Other flags replace our attention, which has the camera encoding.')

        for linear in (self.to_input_tokens, self.to_target_tokens, self.to_pixels):
            nn.init.normal_(linear.weight, std = 0.02)

        self.loss = ViewLoss(perceptual_loss, perceptual_loss_weight, image_loss = image_loss, ssim_weight = ssim_loss_weight, depth_weight = depth_loss_weight)

    # from images to images

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
        depth_range: Tensor | None = None,
        target_distances: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, LossBreakdown] | Embeds:
        """Renders the target views; with `target_images`, returns the loss.

        Args:
            input_images: (b v c h w) in [0, 1]; h and w are multiples of `patch_size`.
            input_rays: (b v 6 h w), Plücker rays as `geometry.plucker_rays` makes them, in any world frame common to a scene. Zeros where missing.
            target_rays: (b 6 h w) for one view, or (b t 6 h w) for several views, which don't attend to each other.
            target_images: (b c h w) or (b t c h w) in [0, 1], as `target_rays`.
            num_input_images: (b), integers from 1 to v: number of valid views, which come first; the others are padding with any content.
            return_loss_breakdown: With target images, also return the parts of the loss.
            return_embed: Return final tokens instead of views or a loss.
            cameras: Cameras (b v+t ...) of the inputs, then of the targets. Required with a `camera_encoding` or `num_depth_planes` other than the paper's; otherwise the result does not
                depend on them.
            depth_range: (b 2), near and far distance of the planes in units of the world, with plane_sweep = 'features'; far may be infinite.
            target_distances: (b t h w), true distances along target rays for the depth loss, infinite for sky.

        Returns:
            Without target images, the views (b c h w) or (b t c h w) in [0, 1]. With them, the scalar loss, mean squared error + `perceptual_loss_weight` × perceptual loss, or (loss,
                LossBreakdown). With `return_embed`, `Embeds`.

        Raises:
            ValueError: If a shape, type or count is wrong.
        """
        inputs, targets = validated(self, input_images, input_rays, target_rays, target_images, num_input_images, cameras, depth_range, target_distances)

        if self.training and self.dropout_input_ray_prob > 0:
            inputs = inputs.without_rays(torch.rand(input_images.shape[:2], device = input_images.device) < self.dropout_input_ray_prob)

        scene = self.encode_views(inputs, self.input_attends_target)
        single = target_rays.ndim == 4

        if return_embed:
            return embed_views(self, inputs, targets, scene, single = single)

        pred, depth_loss = self.render_views(targets, scene, target_distances)
        pred = pred[:, 0] if single else pred

        if target_images is None:
            return pred

        loss, breakdown = self.loss(pred, target_images, depth_loss)
        return (loss, breakdown) if return_loss_breakdown else loss

    def encode(
        self, images: Tensor, rays: Tensor, num_images: Tensor | None = None, cameras: Cameras | None = None, depth_range: Tensor | None = None, *, input_attends_target: bool | None = None,
    ) -> EncodedScene:
        """Encodes the input views of scenes, from which `render` renders any number of views.

        Args:
            images: (b v c h w) in [0, 1].
            rays: (b v 6 h w), Plücker rays.
            num_images: (b), number of valid views.
            cameras: Cameras (b v ...) of the inputs, as in `forward`.
            depth_range: (b 2), as in `forward`.
            input_attends_target: Overrides the mode of the model.

        Raises:
            ValueError: If a shape, type or count is wrong.
        """
        inputs = validated_inputs(self, images, rays, num_images, cameras, depth_range)
        return self.encode_views(inputs, self.input_attends_target if input_attends_target is None else input_attends_target)

    def render(self, scene: EncodedScene, target_rays: Tensor, *, cameras: Cameras | None = None, chunk_size: int | None = None) -> Tensor:
        """Renders views of encoded scenes. The results are those of `forward`.

        Args:
            scene: Encoded scenes from `encode`.
            target_rays: (b 6 h w) for one view, or (b t 6 h w) for several; h and w may differ from those of the inputs.
            cameras: Cameras (b ...) or (b t ...) of the targets, in the world of the scene, as in `forward`.
            chunk_size: Number of views of each scene to render at once, to save memory. By default all.

        Returns:
            Views (b c h w) or (b t c h w) in [0, 1].

        Raises:
            ValueError: If a shape is wrong, or the scene was encoded by a model with other options.
        """
        if chunk_size is not None and chunk_size < 1:
            fail('chunk_size', 'must be at least 1', chunk_size, 'Leave it out for all views at once.')

        targets = validated_targets(self, scene, target_rays, cameras)
        views = torch.cat([self.render_views(targets.targets(some), scene)[0] for some in chunks(targets.rays.shape[1], chunk_size)], dim = 1)
        return views[:, 0] if target_rays.ndim == 4 else views

    # encoding and rendering of checked views

    def encode_views(self, inputs: Views, input_attends_target: bool) -> EncodedScene:
        reference = self.encoding.reference_pose(inputs)
        tokens, pose = self.embed_inputs(inputs), self.encode_pose(inputs, reference)
        scene = EncodedScene(tokens, (), token_mask(inputs.valid_mask, tokens), pose, reference, self.plane_sweep.encode(inputs))

        if input_attends_target:
            return scene

        # input tokens attend to each other only; targets need their keys and values

        n = tokens[0, ..., 0].numel()
        _, keys_values = self.transformer(in_sequence(tokens), valid_mask = scene.valid_mask, pose = in_sequence(pose), query_start = n, return_kv = True)
        return scene._replace(tokens = None, keys_values = keys_values, pose = None)

    def render_views(self, targets: Views, scene: EncodedScene, distances: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Renders views (b t c h w), and computes the depth loss if true distances are given."""
        targets = targets._replace(volume = self.plane_sweep.sweep(targets, scene))
        tokens, _ = self.attend(targets, scene)
        views = self.plane_sweep.compose(self.decode(tokens), tokens, targets, scene)
        return views, None if distances is None else self.plane_sweep.depth_loss(tokens, targets, scene, distances)

    def attend(self, targets: Views, scene: EncodedScene, *, inputs_too: bool = False) -> tuple[Tensor, Tensor]:
        """Returns the final tokens of targets (b t h w d), where each target attends to its scene and itself; with `inputs_too`, also those of the inputs (b·t v·h·w d)."""
        tokens, pose = self.embed_targets(targets, scene), self.encode_pose(targets, scene.reference)
        b, t, h, w, _ = tokens.shape
        x, pose = (None if each is None else rearrange(each, 'b t h w d -> (b t) (h w) d') for each in (tokens, pose))

        if scene.tokens is None:
            x, _ = self.transformer(x, pose = pose, context = scene.keys_values, context_mask = scene.valid_mask)
            return x.reshape(b, t, h, w, -1), x[:, :0]

        # the paper's mode: one sequence of the inputs and one target, for each target

        def with_inputs(inputs: Tensor | None, own: Any) -> Any:
            return None if inputs is None else torch.cat((repeat(inputs, 'b v h w d -> (b t) (v h w) d', t = t), own), dim = 1)

        n = scene.tokens[0, ..., 0].numel()
        valid_mask = None if scene.valid_mask is None else nn.functional.pad(repeat(scene.valid_mask, 'b n -> (b t) n', t = t), (0, h * w), value = True)
        x, _ = self.transformer(with_inputs(scene.tokens, x), valid_mask = valid_mask, pose = with_inputs(scene.pose, pose), query_start = 0 if inputs_too else n)
        inputs, x = x.split((n if inputs_too else 0, h * w), dim = 1)
        return x.reshape(b, t, h, w, -1), inputs

    # tokens

    def embed_inputs(self, inputs: Views) -> Tensor:
        """Returns the tokens (b v h w d) of the pixels and rays of input views."""
        assert inputs.images is not None
        pixels = torch.cat((inputs.images * 2 - 1, self.encoding.rays(inputs)), dim = 2)
        return self.normed(self.to_input_tokens(self.patches(pixels)))

    def embed_targets(self, targets: Views, scene: EncodedScene | None = None) -> Tensor:
        """Returns the tokens (b t h w d) of the rays of target views, enriched by the plane sweep of a scene."""
        tokens = self.to_target_tokens(self.patches(self.encoding.rays(targets)))
        return self.normed(tokens if scene is None else self.plane_sweep.enrich(tokens, targets, scene))

    def encode_pose(self, views: Views, reference: Tensor | None) -> Tensor | None:
        """Returns the pose encodings (b v h w e) of tokens, or None without a camera encoding."""
        return self.encoding.encode_pose(views, reference, patch_size = self.patch_size, dim_head = self.dim_head)

    def normed(self, tokens: Tensor) -> Tensor:
        """Normalises tokens before the first block, in the precision of the blocks."""
        return self.norm(tokens.to(self.norm.weight.dtype))

    def patches(self, pixels: Tensor) -> Tensor:
        return rearrange(pixels, 'b v c (h p) (w q) -> b v h w (p q c)', p = self.patch_size, q = self.patch_size)

    def decode(self, tokens: Tensor) -> Tensor:
        """Decodes final tokens (... h w d) to images (... c h w) in [0, 1], by a linear map to the pixels of each patch, and a sigmoid."""
        pixels = rearrange(self.to_pixels(tokens), '... h w (p q c) -> ... c (h p) (w q)', p = self.patch_size, q = self.patch_size)
        return pixels.sigmoid()

    def tokens(
        self, images: Tensor, rays: Tensor, image_mask: Tensor | None = None, ray_mask: Tensor | None = None, num_images: Tensor | None = None, cameras: Cameras | None = None,
    ) -> Tensor:
        """Returns the final tokens (b v h w d) of views that attend to each other, for other objectives.

        With `input_attends_target = False`, only its own tokens attend to a view whose image is missing.

        Args:
            images: (b v c h w) in [0, 1].
            rays: (b v 6 h w).
            image_mask: (b v) bool, True where a view's image is missing; the view is then a target.
            ray_mask: (b v) bool, True where a view's rays are missing; they are then replaced by zeros, which no valid ray is.
            num_images: As in `encode`.
            cameras: As in `encode`.

        Raises:
            ValueError: If a shape, type or count is wrong, and with `num_depth_planes`, where pixels do not depend on tokens alone.
        """
        check_tokens_alone(self)
        check_masks(rays, image_mask = image_mask, ray_mask = ray_mask)
        return masked_tokens(self, validated_inputs(self, images, rays, num_images, cameras, ray_mask = ray_mask), image_mask)
