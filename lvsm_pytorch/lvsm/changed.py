"""The same weights in a network of other arguments."""

from __future__ import annotations

from typing import Any

from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.sequence import whole_patches

# what a run's folder holds

def that_takes(model: LVSM, size: int) -> LVSM:
    """The model, for images of so many pixels: no weight depends on their number."""
    needed = whole_patches(size, model.patch_size)
    return model if needed <= model.max_image_size else changed(model, max_image_size = needed)


def changed(model: LVSM, **changes: Any) -> LVSM:
    """The same weights, and no copy of them, in a network of other arguments, in eval mode. Errors: ValueError where there is no such network."""
    other = LVSM(**{**model.config, **changes}).to(next(model.parameters()).device)
    other.load_state_dict(model.state_dict(), assign = True)
    other.trained_for = model.trained_for
    return other.eval()
