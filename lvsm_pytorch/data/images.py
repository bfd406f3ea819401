"""Reading, writing, resizing and cropping of images."""

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

# an image decoded at a reduced size is at least this many times as large as needed

SPARE = 2

JPEG_QUALITY = 95


def as_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) from one number, for squares, or from two."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def image_library():
    """Imports and returns Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('image files need Pillow: pip install "lvsm-pytorch[train]"') from error

    return Image


def video_library() -> Any:
    """Imports and returns PyAV, which reads and writes videos."""
    try:
        import av
    except ImportError as error:
        raise ImportError('videos need PyAV: pip install "lvsm-pytorch[train]"; lvsm render does without by --video none') from error

    return av


def load_image(source: Path | bytes, name: str = '') -> Tensor:
    """Loads an image file, or its bytes, as (3 h w) in [0, 1]. Transparency is composited on white; grey and palette images become RGB.

    The EXIF orientation is not applied, because cameras belong to the stored pixels.

    Args:
        source: File, or its bytes.
        name: Name in errors, for bytes.

    Raises:
        BadView: (a ValueError) If the file is missing, broken, far too large, or has more than 8 bits per channel.
    """
    with opened(source, name) as file:
        return in_unit(as_bytes(to_rgb(file, str(name or source))))


def load_reduced(source: Path | bytes, at_least: tuple[int, int], name: str = '') -> tuple[Tensor, tuple[int, int], int]:
    """Loads an image file, or its bytes, at a fraction of its size if it is far larger than needed. Large JPEGs are decoded at a reduced scale.

    Args:
        source: File, or its bytes.
        at_least: Required (height, width). The result is at least twice as large, for the antialiasing filter of a later resize.
        name: Name in errors, for bytes.

    Returns:
        The image (3 h w) as uint8, the size (height, width) of the file, and the factor between them. Incomplete pixels of the last column and
        row are cropped.

    Raises:
        ValueError: As `load_image`.
    """
    with opened(source, name) as file:
        stored = file.height, file.width
        factor = max(min(length // (SPARE * needed) for length, needed in zip(stored, at_least, strict = True)), 1)

        # JPEG decoders scale by 2, 4 or 8 without decoding the higher frequencies

        drafted = next(each for each in (8, 4, 2, 1) if each <= factor)

        is_drafted = drafted > 1 and file.draft('RGB', (stored[1] // drafted, stored[0] // drafted)) is not None
        drafted = round(stored[1] / file.width) if is_drafted else 1
        image = to_rgb(file, str(name or source))

    rest = factor // drafted
    height, width = (length // (drafted * rest) for length in stored)
    image = image.reduce(rest, (0, 0, width * rest, height * rest)) if rest > 1 else image.crop((0, 0, width, height))
    return as_bytes(image), stored, drafted * rest


def as_bytes(image: Any) -> Tensor:
    """Converts a Pillow image to a tensor (3 h w) uint8."""
    import numpy as np

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def in_unit(image: Tensor) -> Tensor:
    """Converts a uint8 image to floating point in [0, 1]; other images are unchanged."""
    return image.float() / 255 if image.dtype == torch.uint8 else image


def in_bytes(image: Tensor) -> Tensor:
    """Converts an image in [0, 1] to uint8; uint8 images are unchanged."""
    return image if image.dtype == torch.uint8 else (image.detach().float().clamp(0, 1) * 255).round().byte()


def to_rgb(file: Any, name: str) -> Any:
    """Converts a Pillow image to RGB. Transparency is composited on white.

    Args:
        file: Pillow image.
        name: Name in errors.

    Raises:
        BadView: If it has more than 8 bits per channel.
    """
    if file.mode.startswith(('I', 'F')):
        fail('image', 'must have 8 bits a channel', f'{name} of mode {file.mode}', 'Convert it to 8 bits.', BadView)

    if file.has_transparency_data:
        image = file.convert('RGBA')
        return image_library().alpha_composite(image_library().new('RGBA', image.size, 'white'), image).convert('RGB')

    return file.convert('RGB')


def image_size(source: Path | bytes) -> tuple[int, int]:
    """Returns (height, width) of an image file or its bytes, without decoding it.

    Raises:
        BadView: As in `load_image`.
    """
    with opened(source) as file:
        return file.height, file.width


@contextmanager
def opened(source: Path | bytes, name: str = ''):
    """Opens an image with Pillow. Broken images and decompression bombs raise BadView, so that a single bad photo is skipped."""
    Image = image_library()

    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as file:
            yield file
    except (BadView, MemoryError):
        raise
    except Exception as error:  # decoders of broken files raise OSError, SyntaxError, EOFError, struct.error, zlib.error ...
        raise BadView(f'image: must be a readable image file, but got {name or source}: {error}. Replace it, or remove it from the scene.') from error


def save_image(image: Tensor, path: Path, *, durable: bool = True) -> None:
    """Writes an image (3 h w) in [0, 1] atomically, in the format of the suffix.

    Args:
        durable: As in `write_whole`.
    """
    check_shape('3 h w', image = image)
    pixels = to_pixels(image)
    write_whole(path, lambda temporary: image_library().fromarray(pixels).save(temporary), durable = durable)


def to_pixels(image: Tensor):
    """Converts an image (c h w), float in [0, 1] or uint8, to a uint8 array (h w c)."""
    return in_bytes(image).permute(1, 2, 0).contiguous().cpu().numpy()


def jpeg_bytes(image: Tensor) -> bytes:
    """Encodes an image (3 h w), float in [0, 1] or uint8, as JPEG without chroma subsampling."""
    stream = BytesIO()
    image_library().fromarray(to_pixels(image)).save(stream, format = 'JPEG', quality = JPEG_QUALITY, subsampling = 0)
    return stream.getvalue()


def resized_by_torch(image: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(image.unsqueeze(0), size, mode = 'bicubic', antialias = True, align_corners = False)[0]
    return resized if image.dtype == torch.uint8 else resized.clamp(0, 1)


def resized_by_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    Image = image_library()
    resized = as_bytes(Image.fromarray(to_pixels(image)).resize((size[1], size[0]), Image.Resampling.LANCZOS))
    return resized if image.dtype == torch.uint8 else in_unit(resized)


RESIZED = dict(bicubic = resized_by_torch, lanczos = resized_by_pillow)


def resize_and_crop(image: Tensor, intrinsics: Tensor, size: tuple[int, int], *, filter: Literal['bicubic', 'lanczos'] = 'bicubic') -> tuple[Tensor, Tensor]:
    """Resizes an image (c h w) to cover `size` (height, width) and crops the centre. Returns it with its intrinsics (3 3).

    A uint8 image stays uint8, which takes an eighth of the time and differs only by rounding.

    Args:
        filter: bicubic is torch's, antialiased and clamped to [0, 1]. lanczos is Pillow's, on 8 bits, as in pixelSplat's evaluation.
    """
    sizes = check_shape('c h w', image = image)
    of_image = sizes['h'], sizes['w']
    (height, width), (covering, top, left) = size, covering_size(of_image, size)
    image = image if covering == of_image else RESIZED[filter](image, covering)
    return image[:, top:top + height, left:left + width], resized_intrinsics(intrinsics, of_image, size)


def covering_size(of_image: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
    """Returns the size (height, width) of an image resized to cover `size`, and the numbers of pixels to crop at the top and on the left."""
    scale = max(length / of_length for length, of_length in zip(size, of_image, strict = True))
    height, width = (max(round(of_length * scale), length) for length, of_length in zip(size, of_image, strict = True))
    return (height, width), (height - size[0]) // 2, (width - size[1]) // 2


def resized_intrinsics(intrinsics: Tensor, of_image: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Returns the intrinsics (3 3) after `resize_and_crop` of an image of size `of_image` (height, width)."""
    covering, top, left = covering_size(of_image, size)
    scaled = intrinsics if covering == of_image else scale_intrinsics(intrinsics, of_image, covering)
    return crop_intrinsics(scaled, top, left)
