"""Final tokens of views, for other objectives such as masked autoencoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import einx
from torch import Tensor

from lvsm_pytorch.lvsm.attention import context_mask, token_mask
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.views import Views, in_sequence, mask_out

if TYPE_CHECKING:
    from lvsm_pytorch.lvsm.model import LVSM


class Embeds(NamedTuple):
    """Final tokens, after the last norm.

    Attributes:
        targets: Tokens (b t h w d) of targets, or (b h w d) of a single target.
        inputs: Tokens (b v h w d) of inputs for a single target. For several targets they are (b t v h w d) in the paper's mode, where inputs attend to a target, and (b v h w d) for all
            with `input_attends_target = False`.
    """
    targets: Tensor
    inputs: Tensor


def embed_views(model: LVSM, inputs: Views, targets: Views, scene: EncodedScene, *, single: bool) -> Embeds:
    """Returns the final tokens of inputs and targets for `LVSM.forward`."""
    targets = targets._replace(volume = model.plane_sweep.sweep(targets, scene))
    tokens, input_tokens = model.attend(targets, scene, inputs_too = True)

    if scene.tokens is None:
        input_tokens = attend_to_all(model, model.embed_inputs(inputs), model.encode_pose(inputs, scene.reference), valid_mask = scene.valid_mask)
        return Embeds(tokens[:, 0] if single else tokens, input_tokens)

    input_tokens = input_tokens.reshape(*tokens.shape[:2], *scene.tokens.shape[1:])
    return Embeds(tokens[:, 0], input_tokens[:, 0]) if single else Embeds(tokens, input_tokens)


def masked_tokens(model: LVSM, views: Views, image_mask: Tensor | None) -> Tensor:
    """Returns the final tokens (b v h w d) of views for `LVSM.tokens`. Views of the image mask (b v) are targets."""
    pose = model.encode_pose(views, model.encoding.reference_pose(views))

    if image_mask is None:
        tokens = model.embed_inputs(views)
        return attend_to_all(model, tokens, pose, valid_mask = token_mask(views.valid_mask, tokens))

    # the tokens of masked views do not depend on their images, so that nothing leaks

    assert views.images is not None
    image_mask = image_mask.to(views.images.device)
    inputs = model.embed_inputs(views._replace(images = mask_out(image_mask, views.images)))
    tokens = einx.where('b v, b v h w d, b v h w d', image_mask, model.embed_targets(views), inputs)

    if model.input_attends_target:
        return attend_to_all(model, tokens, pose, valid_mask = token_mask(views.valid_mask, tokens))

    context = ~image_mask if views.valid_mask is None else ~image_mask & views.valid_mask.to(image_mask.device)
    return attend_to_all(model, tokens, pose, mask = context_mask(context, tokens.shape[2] * tokens.shape[3]))


def attend_to_all(model: LVSM, tokens: Tensor, pose: Tensor | None, **masks: Tensor | None) -> Tensor:
    """Returns the final tokens (b v h w d) of all views as one sequence.

    Args:
        model: The model.
        tokens: (b v h w d).
        pose: Pose encodings (b v h w e), or None.
        masks: Masks of `PaperEncoder.forward`.
    """
    x, _ = model.transformer(in_sequence(tokens), pose = in_sequence(pose), **masks)
    return x.reshape(tokens.shape)
