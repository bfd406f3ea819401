"""Image files in and out, and images made to fit."""

from __future__ import annotations

from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.checks import check_shape
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.geometry.cameras import crop_intrinsics, scale_intrinsics


def image_library():
    """Pillow, imported where it is needed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('image files need Pillow: pip install "lvsm-pytorch[train]"') from error

    return Image


def load_image(source: Path | bytes, name: str = '') -> Tensor:
    """An image file, or its bytes, as (3 h w) in [0, 1]: transparency on white, grey and palettes as colours.

    Pixels come as they are stored: an EXIF orientation is not applied, since cameras are those of the stored pixels.
    name: for messages, where there is no path.
    Errors: BadView (a ValueError) for a file that is missing, broken, far too large, or has more than 8 bits a channel.
    """
    import numpy as np

    with opened(source, name) as file:
        image = to_rgb(file, str(name or source))

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def to_rgb(file: Any, name: str) -> Any:
    """A Pillow image in RGB: transparency on white, grey and palettes as colours. name: for messages. Errors: BadView for more than 8 bits a channel."""
    if file.mode.startswith(('I', 'F')):
        fail('image', 'must have 8 bits a channel', f'{name} of mode {file.mode}', 'Convert it to 8 bits.', BadView)

    if file.has_transparency_data:
        image = file.convert('RGBA')
        return image_library().alpha_composite(image_library().new('RGBA', image.size, 'white'), image).convert('RGB')

    return file.convert('RGB')


def image_size(source: Path | bytes) -> tuple[int, int]:
    """(height, width) of an image file or its bytes; its pixels are not read. Errors: BadView as in `load_image`."""
    with opened(source) as file:
        return file.height, file.width


@contextmanager
def opened(source: Path | bytes, name: str = ''):
    """A Pillow image. What Pillow can't read, or is large enough to be a decompression bomb, is a BadView."""
    Image = image_library()

    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as file:
            yield file
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadView(f'image: must be a readable image file, but got {name or source}: {error}. Replace it, or take it out of the scene.') from error


def save_image(image: Tensor, path: Path, *, durable: bool = True) -> None:
    """Writes (3 h w) in [0, 1], whole or not at all, in the format that the file's ending says. durable: as of `write_whole`."""
    check_shape('3 h w', image = image)
    pixels = to_pixels(image)
    write_whole(path, lambda temporary: image_library().fromarray(pixels).save(temporary), durable = durable)


def to_pixels(image: Tensor):
    """(c h w) in [0, 1] as an array of bytes (h w c)."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def resized_by_torch(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image.unsqueeze(0), size, mode = 'bicubic', antialias = True, align_corners = False)[0].clamp(0, 1)


def resized_by_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    import numpy as np

    Image = image_library()
    pixels = np.array(Image.fromarray(to_pixels(image)).resize((size[1], size[0]), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


RESIZED = dict(bicubic = resized_by_torch, lanczos = resized_by_pillow)


def resize_and_crop(image: Tensor, intrinsics: Tensor, size: tuple[int, int], *, filter: Literal['bicubic', 'lanczos'] = 'bicubic') -> tuple[Tensor, Tensor]:
    """The image (c h w) made as small or large as covers `size` (height, width), and the middle of it; with its intrinsics (3 3).

    filter: bicubic with antialiasing, cut off to [0, 1], is the sharpest of torch's that doesn't alias when it makes smaller. lanczos is
        Pillow's, of 8 bits, by which the field evaluates.
    """
    sizes = check_shape('c h w', image = image)
    height, width = size
    scale = max(height / sizes['h'], width / sizes['w'])
    covering = max(round(sizes['h'] * scale), height), max(round(sizes['w'] * scale), width)

    if covering != (sizes['h'], sizes['w']):
        image = RESIZED[filter](image, covering)
        intrinsics = scale_intrinsics(intrinsics, (sizes['h'], sizes['w']), covering)

    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    return image[:, top:top + height, left:left + width], crop_intrinsics(intrinsics, top, left)
