"""Comparison images: inputs, prediction and truth side by side, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.data.images import to_pixels
from lvsm_pytorch.data.sources import Batch
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.lvsm.losses import psnr

GAP, LABEL_HEIGHT, TILE = 4, 18, 128


def save_comparison(path: Path, batch: Batch, pred: Tensor, *, max_rows: int = 8) -> None:
    """Writes an image with a row for each sample: its inputs, the prediction `pred` (b t 3 h w) of its first target with its PSNR, and the truth.

    Small images are enlarged by nearest-neighbour interpolation.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = min(len(batch.names), max_rows)
    num_inputs = batch.input_images.shape[1]
    labels = [*(f'input {i + 1}' for i in range(num_inputs)), 'prediction', 'truth']
    views = torch.cat((batch.input_images[:rows], pred[:rows, :1], batch.target_images[:rows, :1]), dim = 1)

    height, width = views.shape[-2:]
    zoom = max(round(TILE / height), 1)
    cell_height, cell_width = height * zoom + LABEL_HEIGHT + GAP, width * zoom + GAP

    picture = Image.new('RGB', (cell_width * len(labels) + GAP, cell_height * rows + LABEL_HEIGHT + GAP), 'white')
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    psnrs = psnr(pred[:rows, 0], batch.target_images[:rows, 0])

    for column, label in enumerate(labels):
        draw.text((GAP + column * cell_width, 2), label, 'black', font)

    for row in range(rows):
        top = LABEL_HEIGHT + row * cell_height

        for column, view in enumerate(views[row]):
            picture.paste(to_pillow(view, zoom), (GAP + column * cell_width, top))

        below = top + height * zoom + 2
        draw.text((GAP, below), batch.names[row], 'black', font)
        draw.text((GAP + num_inputs * cell_width, below), f'{psnrs[row]:.2f} dB', 'black', font)

    path.parent.mkdir(parents = True, exist_ok = True)
    write_whole(path, picture.save)


def joined(images: Sequence[Tensor], *, across: bool) -> Tensor:
    """Joins images (3 h w) in a row or a column, with white gaps and padding."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    parts = []

    for number, image in enumerate(images):
        gap = 0 if number == 0 else GAP
        _, h, w = image.shape
        padding = (gap, 0, 0, height - h) if across else (0, width - w, gap, 0)
        parts.append(F.pad(image, padding, value = 1.))

    return torch.cat(parts, dim = 2 if across else 1)


def to_pillow(image: Tensor, zoom: int):
    """Returns a Pillow image of a tensor (3 h w) in [0, 1], enlarged `zoom` times."""
    from PIL import Image

    return Image.fromarray(to_pixels(F.interpolate(image.unsqueeze(0), scale_factor = zoom)[0]))
